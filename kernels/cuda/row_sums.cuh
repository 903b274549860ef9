// SPDX-License-Identifier: Apache-2.0
// Sums over the rows of a matrix in a fixed order: each block of 64 rows gives a partial sum, and
// the partial sums are added likewise. Within a block 8 threads a column sum every eighth row, and
// their sums are added in order.
#pragma once

#include "core/device.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

constexpr int64_t kRowBlock = 64;
constexpr int kSumPack = 4, kSumThreads = 8;   // columns a thread, threads a column
constexpr int kSumColumns = kWarp * kSumPack;  // columns a block
constexpr int kSumBlock = kWarp * kSumThreads;
constexpr int kSumSlot = 0;  // of device_scratch

// What is summed: terms.add(r, c, left, sums) adds row r's terms of columns [c, c + 4), of which
// the first `left` exist, to sums[Terms::kSums]. Written to out (row blocks, kSums, columns), or
// added to out (kSums, columns) where `accumulate`, with one row block.
template <class Terms>
__global__ void __launch_bounds__(kSumBlock)
    row_sums_kernel(Terms terms, int64_t rows, int64_t columns, int64_t row_block, float* out,
                    bool accumulate) {
  constexpr int kSums = Terms::kSums;
  const int64_t c = int64_t{blockIdx.y} * kSumColumns + threadIdx.x * kSumPack, left = columns - c;
  const int64_t begin = int64_t{blockIdx.x} * row_block, end = smaller(rows, begin + row_block);
  Floats<kSumPack> sums[kSums] = {};
  if (left > 0) {
    for (int64_t r = begin + threadIdx.y; r < end; r += kSumThreads) terms.add(r, c, left, sums);
  }
  constexpr int kPartial = kSums * kSumThreads * kSumColumns;
  TENON_SHARED(float, partial, kPartial);
#pragma unroll
  for (int s = 0; s < kSums; ++s) {
#pragma unroll
    for (int k = 0; k < kSumPack; ++k)
      partial[(s * kSumThreads + threadIdx.y) * kSumColumns + threadIdx.x * kSumPack + k] =
          sums[s][k];
  }
  __syncthreads();
  const int64_t first = int64_t{blockIdx.y} * kSumColumns;
  for (int i = threadIdx.y * kWarp + threadIdx.x; i < kSums * kSumColumns; i += kSumBlock) {
    const int s = i / kSumColumns, column = i % kSumColumns;
    if (first + column >= columns) continue;
    float total = 0;
    for (int t = 0; t < kSumThreads; ++t)
      total += partial[(s * kSumThreads + t) * kSumColumns + column];
    float* to = out + (int64_t{blockIdx.x} * kSums + s) * columns + first + column;
    *to = accumulate ? *to + total : total;
  }
}

// The elements of a matrix of T whose rows lie `stride` apart.
template <class T>
struct ElementTerms {
  static constexpr int kSums = 1;
  const T* x;  // (rows, columns)
  int64_t stride;
  bool aligned;
  __device__ __forceinline__ void add(int64_t r, int64_t c, int64_t left,
                                      Floats<kSumPack> (&sums)[kSums]) const {
    const Floats<kSumPack> v = load<kSumPack>(x + r * stride + c, left, aligned);
#pragma unroll
    for (int k = 0; k < kSumPack; ++k) sums[0][k] += v[k];
  }
};

// out[s][c] += the sum over rows of term s of column c; out[s] may be null.
template <class Terms>
void add_row_sums(const char* name, const Terms& terms, int64_t rows, int64_t columns,
                  float* const (&out)[Terms::kSums]) {
  constexpr int64_t kSums = Terms::kSums;
  const int64_t blocks = divide_up(rows, kRowBlock), tiles = divide_up(columns, kSumColumns);
  if (blocks == 0 || tiles == 0) return;
  const dim3 threads = extent(kWarp, kSumThreads);
  auto* partial =
      static_cast<float*>(device_scratch(kSumSlot, blocks * kSums * columns * int64_t{4}));
  launch(name, row_sums_kernel<Terms>, extent(blocks, tiles), threads, 0, terms, rows, columns,
         kRowBlock, partial, false);
  for (int64_t s = 0; s < kSums; ++s) {
    if (out[s] == nullptr) continue;
    const ElementTerms<float> sums = {partial + s * columns, kSums * columns,
                                      columns % kSumPack == 0};
    launch(name, row_sums_kernel<ElementTerms<float>>, extent(1, tiles), threads, 0, sums, blocks,
           columns, blocks, out[s], true);
  }
}

}  // namespace tenon::cuda::TENON_SM
