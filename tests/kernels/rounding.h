// SPDX-License-Identifier: Apache-2.0
// The stochastic rounding of half weights, in the words of core/kernel_table.h.
#pragma once

#include <bit>
#include <cmath>

#include "core/kernel_table.h"
#include "core/philox.h"

namespace tenon::test {

inline constexpr Rounding kRounding{.seed = 77, .purpose = 1 << 24, .step = 5};

// What a finite fp32 result becomes in bf16 or fp16, from the two numbers of the type about it: away from
// zero where what is left of it and the word's upper bits make a whole step.
inline double rounded(DType dtype, double result, uint32_t number, int64_t i) {
  Rounding stream = kRounding;
  stream.purpose += number;
  const int places = dtype == DType::kBF16 ? 8 : 11, least = dtype == DType::kBF16 ? -126 : -14;
  const int below = 24 - places;  // bits of fp32 below the type's own
  const double part =
      std::ldexp(philox_word(stream, static_cast<uint64_t>(i)) >> (32 - below), -below);
  int exponent = 0;
  std::frexp(result, &exponent);  // |result| in [2^(exponent - 1), 2^exponent)
  const double step = std::ldexp(1.0, std::max(exponent - 1, least) + 1 - places);
  const double steps = std::fabs(result) / step;
  // fp32's own last place where the type's numbers are smaller than normal
  const double kept = std::ldexp(std::nearbyint(std::ldexp(steps, below)), -below);
  return std::copysign(std::floor(kept + part) * step, result);
}

}  // namespace tenon::test
