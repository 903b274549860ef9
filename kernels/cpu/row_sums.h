// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of a matrix that do not depend on the number of threads: each block of 64 rows
// is summed in order into its own partial sum, and the partial sums are added in order.
#pragma once

#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

constexpr int64_t kRowBlock = 64;
constexpr int kPartialSlot = 4;  // scratch slots of kernels other than matmul: 4..7
constexpr int kRowSlot = 5;

// Runs sum_block(begin, end, partial) for each block of rows; it adds them into
// partial[0..columns), which starts at zero. Returns the partial sums (blocks, columns), valid
// until the calling thread's next call.
template <class SumBlock>
float* sum_row_blocks(int64_t rows, int64_t columns, const SumBlock& sum_block) {
  // The caller's block of scratch, shared by the threads.
  float* partial =
      static_cast<float*>(thread_scratch(kPartialSlot, divide_up(rows, kRowBlock) * columns * 4));
  for_ranges(rows, kRowBlock, [&](int64_t begin, int64_t end) {
    float* own = partial + begin / kRowBlock * columns;
    for (int64_t c = 0; c < columns; c += kLanes) Vec::zero().store(own + c, columns - c);
    sum_block(begin, end, own);
  });
  return partial;
}

// out[c] += the sum over blocks of partial[block * stride + c], for c in [0, columns).
inline void add_row_blocks(const float* partial, int64_t rows, int64_t stride, int64_t columns,
                           float* out) {
  const int64_t blocks = divide_up(rows, kRowBlock);
  for_ranges(columns, 4 * kRowBlock, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c += kLanes) {
      Vec total = Vec::zero();
      for (int64_t b = 0; b < blocks; ++b)
        total = total + Vec::load(partial + b * stride + c, end - c);
      (Vec::load(out + c, end - c) + total).store(out + c, end - c);
    }
  });
}

}  // namespace tenon::cpu::TENON_ISA
