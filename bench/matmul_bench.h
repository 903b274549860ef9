// SPDX-License-Identifier: Apache-2.0
// Times matmul at shapes of real models, after checking its result, beside the peer library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/backend.h"

namespace tenon::bench {

struct MatmulShape {
  std::string name;
  int64_t m = 0, n = 0, k = 0, k2 = 0;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::kF32, b = DType::kF32, c = DType::kF32;
};

struct MatmulTiming {
  double seconds = 0;  // median
  double best_seconds = 0;
  double peer_seconds =
      0;  // median of the peer's runs, which alternate with ours; 0 where it has no such product
  double bound_used = 0;  // the largest error of the checked elements, as a share of its bound
};

// The products of a step of GPT-2 (124M) at 2048 tokens, of its LoRA of rank 8, and of generation.
const std::vector<MatmulShape>& matmul_shapes();

// Runs the device's matmul for at least `runs` runs and `seconds`, on the CPU with thread_count()
// threads. Throws Error(kInternal) when one of a few elements is not within its bound of a
// double-precision dot product.
MatmulTiming run_matmul_bench(Device device, const MatmulShape& shape, int runs, double seconds);

// A line for people: shape, milliseconds, GFLOP/s and share of `peak` (of the device, 0: not
// known), GB/s of reading both operands and writing c once, and the peer's time.
std::string describe(const MatmulShape& shape, const MatmulTiming& timing, double peak);

}  // namespace tenon::bench
