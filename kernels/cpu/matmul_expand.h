// SPDX-License-Identifier: Apache-2.0
// Operands in 4 bits, and in int8 for products in bf16: pieces of them become fp32 in a buffer that stays
// in the first-level cache, and go on as any other operand. No more of a matrix is ever dense.
#pragma once

#include <cstdint>

#include "kernels/cpu/matmul_source.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// A source's format with what is worked out once for many runs.
struct Expander {
  static constexpr int kVectors = FourBitNumbers::kCodes / kLanes;

  explicit Expander(const FourBit& four_bit)
      : format(four_bit),
        numbers(four_bit.numbers),
        block_bits(__builtin_ctzll(static_cast<unsigned long long>(four_bit.block))),
        outer_bits(__builtin_ctzll(static_cast<unsigned long long>(four_bit.outer_block))) {}

  float scale_of(int64_t block) const {
    if (format.scales != nullptr) return format.scales[block];
    const float inner = format.scale_numbers[format.scale_codes[block]];
    return inner * format.outer_scales[block >> outer_bits] + format.offset;
  }
  float number_at(const uint8_t* data, int64_t element) const {
    const uint8_t byte = data[element / 2];
    return format.numbers[element % 2 == 0 ? byte >> 4 : byte & 15];
  }
  // out[i] = element `first` + i.
  void run(const uint8_t* data, int64_t first, int64_t count, float* out) const {
    for (int64_t i = 0; i < count;) {
      const int64_t block = (first + i) >> block_bits;
      const int64_t end = smaller(count, ((block + 1) << block_bits) - first);
      const float scale = scale_of(block);
      const Vec all = Vec::all(scale);
      if ((first + i) % 2 != 0) {
        out[i] = number_at(data, first + i) * scale;
        ++i;
      }
      for (; i + FourBitNumbers::kCodes <= end; i += FourBitNumbers::kCodes) {
        Vec values[kVectors];
        numbers.look_up(data + (first + i) / 2, values);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) (values[v] * all).store(out + i + v * kLanes);
      }
      if constexpr (kLanes > 1 && kLanes < FourBitNumbers::kCodes) {
        for (; i + kLanes <= end; i += kLanes) {
          const Vec codes = load_four_bit(data + (first + i) / 2);
          (lookup(format.numbers, codes) * all).store(out + i);
        }
      }
      for (; i < end; ++i) out[i] = number_at(data, first + i) * scale;
    }
  }

  const FourBit format;
  const FourBitNumbers numbers;
  const int block_bits, outer_bits;
};

// `rows` stored rows from `row` on, `columns` elements of each from `column` on, as fp32 rows that
// are `out_stride` apart.
inline void expand(const Source& part, int64_t row, int64_t rows, int64_t column, int64_t columns,
                   float* out, int64_t out_stride) {
  if (part.four_bit == nullptr) {
    for (int64_t r = row; r < row + rows; ++r, out += out_stride) {
      const int8_t* x = static_cast<const int8_t*>(part.data) + r * part.stride + column;
      const Vec scale = Vec::all(part.scales == nullptr ? 1.0f : part.scales[r]);
      for_vectors(columns, [&](int64_t c, int64_t left, int) {
        (Vec::load(x + c, left) * scale).store(out + c, left);
      });
    }
    return;
  }
  const auto* data = static_cast<const uint8_t*>(part.data);
  const Expander expander(*part.four_bit);
  for (int64_t r = 0; r < rows; ++r)
    expander.run(data, (row + r) * part.stride + column, columns, out + r * out_stride);
}

}  // namespace tenon::cpu::TENON_ISA
