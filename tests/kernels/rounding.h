// SPDX-License-Identifier: Apache-2.0
// The stochastic rounding of bf16 weights, in the words of core/kernel_table.h.
#pragma once

#include <bit>

#include "core/kernel_table.h"
#include "core/philox.h"

namespace tenon::test {

inline constexpr Rounding kRounding{.seed = 77, .purpose = 1 << 24, .step = 5};

// What an fp32 result becomes in bf16, by the words of the header.
inline double rounded(double exact, uint32_t number, int64_t i) {
  Rounding stream = kRounding;
  stream.purpose += number;
  const uint32_t word = philox_word(stream, static_cast<uint64_t>(i));
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(exact));
  return static_cast<double>(std::bit_cast<float>((bits + (word >> 16)) & 0xffff0000u));
}

}  // namespace tenon::test
