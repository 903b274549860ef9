// SPDX-License-Identifier: Apache-2.0
// One of the few times a wide in 4 bits whose rows run along K: its numbers go from the codes into the
// sums without passing through memory. Sums are taken in the order in which those of expanded pieces
// are (add_dots), so that a row has the same bits whatever it is computed with.
#pragma once

#include <cstdint>

#include "kernels/cpu/matmul_expand.h"
#include "kernels/cpu/matmul_few_kernel.h"

namespace tenon::cpu::TENON_ISA::few {

// Runs of codes that have one scale and whole bytes: rows and steps of K must be multiples.
constexpr int64_t kCodeRun = 32;

// sums[j] += dot(few, wide row j) over `count` steps. `first`: the element of the first row's first
// step. Asks for what lies `ahead` bytes on.
template <int kColumns>
void add_dots_of_codes(const Expander& expander, const uint8_t* data, int64_t first, int64_t stride,
                       int64_t count, const float* few, int64_t ahead, float* sums) {
  constexpr int kVectors = Expander::kVectors;
  Vec sum[kColumns];
#pragma GCC unroll 4
  for (int j = 0; j < kColumns; ++j) sum[j] = Vec::zero();
  // Codes that have one scale in every row.
  const int64_t block = stride % 64 == 0 ? smaller(64, expander.format.block) : kCodeRun;
  for (int64_t p = 0; p < count;) {
    const int64_t end = smaller(count, p + block - (first + p) % block);
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      const int64_t at = first + j * stride;
      const uint8_t* codes = data + at / 2;
      const Vec scale = Vec::all(expander.scale_of((at + p) >> expander.block_bits));
      __builtin_prefetch(codes + p / 2 + ahead, 0, 2);
      for (int64_t q = p; q < end; q += FourBitNumbers::kCodes) {
        Vec values[kVectors];
        expander.numbers.look_up(codes + q / 2, values);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
          sum[j] = fma(Vec::load(few + q + v * kLanes), values[v] * scale, sum[j]);
      }
    }
    p = end;
  }
  float total[kColumns];
  sum_lanes(sum, total);
#pragma GCC unroll 4
  for (int j = 0; j < kColumns; ++j) sums[j] += total[j];
}

// Steps [begin, end) of K of `rows` rows of the wide from `row` on; lanes are added up after each
// `part` steps.
inline void add_dots_of_codes(const Source& wide, int64_t begin, int64_t end, int64_t part,
                              const float* few, int64_t row, int64_t rows, float* sums) {
  constexpr int kColumns = 4;
  const Expander expander(*wide.four_bit);
  const auto* data = static_cast<const uint8_t*>(wide.data);
  int64_t j = 0;
  const auto add = [&]<int kCount>() {
    for (int64_t p = begin; p < end; p += part) {
      const int64_t first = (row + j) * wide.stride + p;
      add_dots_of_codes<kCount>(expander, data, first, wide.stride, smaller(part, end - p), few + p,
                                kCount * wide.stride / 2, sums + j);
    }
  };
  for (; j + kColumns <= rows; j += kColumns) add.template operator()<kColumns>();
  for (; j < rows; ++j) add.template operator()<1>();
}

}  // namespace tenon::cpu::TENON_ISA::few
