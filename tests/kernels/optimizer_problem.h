// SPDX-License-Identifier: Apache-2.0
// What the tests of optimizers share: a list of tensors with their moments.
#pragma once

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/rounding.h"

namespace tenon::test {

// Around what is worked on at a time, in registers, codes and pieces.
inline constexpr int64_t kOptimizerSizes[] = {1, 7, 64, 65, 255, 256, 257, 4097, 2 * 4096 + 77};

// Two tensors of `count` and of 3 elements, weights in dtype.
struct OptimizerCase {
  OptimizerCase(DType dtype, int64_t count)
      : w{{dtype, random_values(count, 1)}, {dtype, random_values(3, 2)}},
        g{{DType::kF32, random_values(count, 3)}, {DType::kF32, random_values(3, 4)}},
        m{{DType::kF32, random_values(count, 5, -0.1f, 0.1f)},
          {DType::kF32, random_values(3, 6, -0.1f, 0.1f)}},
        v{{DType::kF32, random_values(count, 7, 0, 0.01f)},
          {DType::kF32, random_values(3, 8, 0, 0.01f)}} {}
  std::vector<GuardedArray> w, g, m, v;

  std::vector<OptimizerTensor> list() {
    std::vector<OptimizerTensor> tensors;
    int64_t pieces = 0;
    for (size_t i = 0; i < 2; ++i) {
      tensors.push_back({.weight = w[i].data(),
                         .grad = floats(g[i]),
                         .m = floats(m[i]),
                         .v = floats(v[i]),
                         .count = w[i].count(),
                         .first_piece = pieces,
                         .weight_decay = 0.1f,
                         .dtype = w[i].dtype(),
                         .number = static_cast<uint32_t>(10 + i)});
      pieces += (w[i].count() + kOptimizerPiece - 1) / kOptimizerPiece;
    }
    return tensors;
  }
};

// A list that lies where kernels want it.
class PlacedList {
 public:
  explicit PlacedList(const std::vector<OptimizerTensor>& tensors)
      : last_(tensors.back()), count_(static_cast<int64_t>(tensors.size())), tensors_(tensors) {}
  OptimizerList get() const {
    return {tensors_.data(), count_,
            last_.first_piece + (last_.count + kOptimizerPiece - 1) / kOptimizerPiece};
  }

 private:
  OptimizerTensor last_;
  int64_t count_;
  PlacedArray<OptimizerTensor> tensors_;
};

inline AdamWArgs adamw_args(const PlacedList& list) {
  return {.list = list.get(),
          .scale = {.unscale = 0.5},
          .rounding = kRounding,
          .lr = 1e-2f,
          .beta1 = 0.9f,
          .beta2 = 0.99f,
          .eps = 1e-8f,
          .correction1 = 0.5f,
          .correction2 = 0.25f};
}

}  // namespace tenon::test
