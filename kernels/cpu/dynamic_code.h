// SPDX-License-Identifier: Apache-2.0
// A block of an optimizer's moments between fp32 and 8 bits: DynamicCode in core/kernel_table.h.
#pragma once

#include "core/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

inline void decode_block(const DynamicCode& code, const uint8_t* codes, float scale, float* out,
                         int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = code.numbers[codes[i]] * scale;
}

// The code of the nearest number; x in [-1, 1].
inline int nearest_code(const DynamicCode& code, float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x), size = bits & 0x7fffffffu;
  constexpr uint32_t kLeast = uint32_t{127 - DynamicCode::kOctaves} << 23;
  const uint32_t bucket = size < kLeast ? 0 : (size >> 16) - (kLeast >> 16) + 1;
  const int first = code.first[bits >> 31][bucket];
  return first + (x > code.between[first]);
}

// Writes the codes and returns the scale, which is the largest size. keeps_sign: no number other
// than 0 gets the code of one with another sign.
template <bool keeps_sign>
float encode_block(const DynamicCode& code, const float* x, uint8_t* codes, int64_t count) {
  Vec most = Vec::zero();
  for (int64_t i = 0; i < count; i += kLanes) most = max(most, abs(Vec::load(x + i, count - i)));
  const float scale = most.largest(), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  // A scale so small that its inverse is infinite is that of a block of zeros.
  const bool zeros = !(inverse <= 0x1.fffffep127f);
  for (int64_t i = 0; i < count; ++i) {
    const float share = zeros ? 0.0f : x[i] * inverse;
    int c = nearest_code(code, share);
    if (keeps_sign && share != 0) {
      if (share < 0 && code.numbers[c] >= 0) --c;
      if (share > 0 && code.numbers[c] <= 0) ++c;
    }
    codes[i] = static_cast<uint8_t>(c);
  }
  return zeros ? 0.0f : scale;
}

}  // namespace tenon::cpu::TENON_ISA
