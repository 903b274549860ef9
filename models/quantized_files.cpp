// SPDX-License-Identifier: Apache-2.0
#include "models/quantized_files.h"

#include "core/backend.h"
#include "core/error.h"
#include "core/finite.h"
#include "models/four_bit_files.h"
#include "models/int8_files.h"
#include "models/weights.h"

namespace tenon {

bool stored_quantized(const StoredWeights& stored, const std::string& path) {
  return stored_in_four_bit(stored, path) || stored_in_int8(stored, path);
}

bool is_quantized_part(const std::string& name) {
  return is_four_bit_part(name) || is_int8_part(name);
}

Weight take_quantized(StoredWeights& stored, const std::string& path, const Shape& shape) {
  if (stored_in_int8(stored, path)) return Weight(take_int8(stored, path, shape));
  return Weight(take_four_bit(stored, path, shape));
}

Weight quantized(Quantization to, const Shape& shape, DType dtype, const ElementReader& read,
                 const std::string& where) {
  if (to == Quantization::kInt8) return Weight(quantize_int8(shape, read, where));
  return Weight(quantize_nf4(shape, dtype, read, to == Quantization::kDoubleNf4, where));
}

Weight quantized(Quantization to, const TensorEntry& entry, const Linear& linear) {
  const int64_t in = linear.in(), out = linear.out();
  const Tensor stored = stored_tensor(entry, linear.weight.shape);
  const auto widen = [&](int64_t element, int64_t count, float* floats) {
    kernels(Device::kCPU)
        .cast({.x = static_cast<const std::byte*>(stored.raw()) + element * size_of(stored.dtype()),
               .y = floats,
               .count = count,
               .from = stored.dtype(),
               .to = DType::kF32});
  };
  const auto read = [&](int64_t begin, int64_t count, float* floats) {
    if (linear.layout == WeightLayout::kOutIn) return widen(begin, count, floats);
    for (int64_t i = 0; i < count; ++i)  // from (in, out)
      floats[i] =
          element_of(stored.raw(), (begin + i) % in * out + (begin + i) / in, stored.dtype());
  };
  return quantized(
      to, {out, in}, *entry.dtype, read,
      fmt::format("{}: tensor \"{}\"", shown(entry.file->path()), printable(entry.name)));
}

Weight unfilled(Quantization to, const Shape& shape, DType dtype) {
  return to == Quantization::kInt8 ? Weight(unfilled_int8(shape))
                                   : Weight(unfilled_nf4(shape, dtype));
}

std::vector<TensorToWrite> quantized_tensors(const std::string& name, const Weight& weight) {
  if (weight.int8() != nullptr) return int8_tensors(name, *weight.int8());
  return four_bit_tensors(name, *weight.four_bit());
}

}  // namespace tenon
