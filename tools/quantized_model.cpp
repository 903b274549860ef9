// SPDX-License-Identifier: Apache-2.0
#include "tools/quantized_model.h"

#include "models/weights.h"

namespace tenon {

std::vector<TensorToWrite> QuantizedWriter::tensors(const std::string& name, const Shape& shape,
                                                    DType dtype,
                                                    std::function<Weight()> make) const {
  constexpr int64_t kKept = 65536;
  const bool doubled = to_ == Quantization::kDoubleNf4;
  const auto weight = [latest = latest_, name, make = std::move(make)] {
    if (latest->of == name) return latest->weight;
    *latest = {};
    *latest = {name, make()};
    return latest->weight;
  };
  // Doubly quantized, the state's text is as long as its offset has digits, so that the matrix is
  // made here: what is small of it is kept. Else shapes will do.
  std::vector<TensorToWrite> all =
      quantized_tensors(name, doubled ? weight() : unfilled(to_, shape, dtype));
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].make == nullptr || (doubled && all[i].bytes() <= kKept)) continue;
    all[i].make = [=] { return quantized_tensors(name, weight())[i].make(); };
  }
  return all;
}

void state_quantization(nlohmann::ordered_json& config, Quantization to, DType computes) {
  const bool int8 = to == Quantization::kInt8;
  config["quantization_config"] = {
      {"_load_in_4bit", !int8},
      {"_load_in_8bit", int8},
      {"bnb_4bit_compute_dtype", int8 ? "float32" : torch_name(computes)},
      {"bnb_4bit_quant_storage", "uint8"},
      {"bnb_4bit_quant_type", int8 ? "fp4" : "nf4"},
      {"bnb_4bit_use_double_quant", to == Quantization::kDoubleNf4},
      {"llm_int8_enable_fp32_cpu_offload", false},
      {"llm_int8_has_fp16_weight", false},
      {"llm_int8_skip_modules", nullptr},
      {"llm_int8_threshold", 6.0},
      {"load_in_4bit", !int8},
      {"load_in_8bit", int8},
      {"quant_method", "bitsandbytes"}};
}

}  // namespace tenon
