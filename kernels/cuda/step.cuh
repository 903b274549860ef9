// SPDX-License-Identifier: Apache-2.0
// What the kernels of optimizers share: the factor of the gradients, and how bf16 weights are rounded.
#pragma once

#include "core/kernel_table.h"
#include "core/philox.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

__device__ __forceinline__ bool finite(double x) { return x - x == 0; }

__device__ __forceinline__ bool nothing_to_do(const GradientScale& s) {
  return s.sum_squares != nullptr && !finite(*s.sum_squares);
}

// Requires: !nothing_to_do(s).
__device__ __forceinline__ float factor_of(const GradientScale& s) {
  if (s.sum_squares == nullptr || s.max_norm <= 0) return static_cast<float>(s.unscale);
  const double share = s.max_norm / (s.unscale * sqrt(*s.sum_squares) + 1e-6);
  return static_cast<float>(s.unscale * (share < 1 ? share : 1));
}

// w with the lower half of its bits 0, after the upper half of the word was added to that: see
// Rounding. NaN stays NaN.
__device__ __forceinline__ float round_upper(float w, uint32_t word) {
  const uint32_t bits = __float_as_uint(w) + (word >> 16);
  return w == w ? __uint_as_float(bits & 0xffff0000u) : w;
}

}  // namespace tenon::cuda::TENON_SM
