// SPDX-License-Identifier: Apache-2.0
// What the kernels of optimizers share: the factor of the gradients, and how half weights are rounded.
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

// w with the lower kBits of its bits 0, after the upper kBits of the word were added to them. NaN stays
// NaN.
template <int kBits>
__device__ __forceinline__ float round_off(float w, uint32_t word) {
  const uint32_t bits = __float_as_uint(w) + (word >> (32 - kBits));
  return w == w ? __uint_as_float(bits >> kBits << kBits) : w;
}

// The number of the type, as far as its range goes, that w becomes by the word: see Rounding.
__device__ __forceinline__ float round_to(DType dtype, float w, uint32_t word) {
  switch (dtype) {
    case DType::kBF16: return round_off<16>(w, word);
    case DType::kF16: return round_off<13>(w * 0x1p-112f, word) * 0x1p112f;
    default: return w;
  }
}

}  // namespace tenon::cuda::TENON_SM
