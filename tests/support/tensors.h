// SPDX-License-Identifier: Apache-2.0
// Tensors for tests: filled with reproducible values, and read back.
#pragma once

#include <vector>

#include "core/finite.h"
#include "core/tensor.h"
#include "tests/support/compare.h"

namespace tenon::test {

inline Tensor filled(Shape shape, uint32_t seed, float low = -1, float high = 1) {
  Tensor tensor = Tensor::empty(shape, DType::kF32);
  const std::vector<float> source = random_values(tensor.numel(), seed, low, high);
  std::copy(source.begin(), source.end(), tensor.data<float>());
  return tensor;
}

inline Tensor integers(Shape shape, const std::vector<int32_t>& source) {
  Tensor tensor = Tensor::empty(shape, DType::kI32);
  std::copy(source.begin(), source.end(), tensor.data<int32_t>());
  return tensor;
}

inline std::vector<float> values(const Tensor& tensor) {
  std::vector<float> all;
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    all.push_back(is_float(tensor.dtype()) ? element_of(tensor.raw(), i, tensor.dtype())
                                           : static_cast<float>(tensor.data<uint8_t>()[i]));
  }
  return all;
}

}  // namespace tenon::test
