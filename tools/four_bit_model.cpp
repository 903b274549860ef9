// SPDX-License-Identifier: Apache-2.0
#include "tools/four_bit_model.h"

#include "models/four_bit_files.h"
#include "models/weights.h"

namespace tenon {

std::vector<TensorToWrite> FourBitWriter::tensors(const std::string& name, const Shape& shape,
                                                  DType dtype,
                                                  std::function<FourBitMatrix()> make) const {
  constexpr int64_t kKept = 65536;
  const auto matrix = [latest = latest_, name, make = std::move(make)] {
    if (latest->of == name) return latest->matrix;
    *latest = {};
    *latest = {name, std::make_shared<const FourBitMatrix>(make())};
    return latest->matrix;
  };
  // Doubly quantized, the state's text is as long as its offset has digits, so that the matrix is
  // made here: what is small of it is kept. Else shapes will do.
  std::vector<TensorToWrite> all = four_bit_tensors(
      name,
      doubled_ ? matrix() : std::make_shared<const FourBitMatrix>(unfilled_nf4(shape, dtype)));
  for (size_t i = 0; i < all.size(); ++i) {
    if (doubled_ && all[i].bytes() <= kKept) continue;
    all[i].make = [=] { return four_bit_tensors(name, matrix())[i].make(); };
  }
  return all;
}

void state_nf4(nlohmann::ordered_json& config, bool doubled, DType computes) {
  config["quantization_config"] = {{"_load_in_4bit", true},
                                   {"_load_in_8bit", false},
                                   {"bnb_4bit_compute_dtype", torch_name(computes)},
                                   {"bnb_4bit_quant_storage", "uint8"},
                                   {"bnb_4bit_quant_type", "nf4"},
                                   {"bnb_4bit_use_double_quant", doubled},
                                   {"llm_int8_enable_fp32_cpu_offload", false},
                                   {"llm_int8_has_fp16_weight", false},
                                   {"llm_int8_skip_modules", nullptr},
                                   {"llm_int8_threshold", 6.0},
                                   {"load_in_4bit", true},
                                   {"load_in_8bit", false},
                                   {"quant_method", "bitsandbytes"}};
}

}  // namespace tenon
