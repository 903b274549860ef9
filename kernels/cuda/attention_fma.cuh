// SPDX-License-Identifier: Apache-2.0
// Products of 64 x 64 in fp32 by a block of 256 threads, 4 x 4 a thread: what the attention kernels
// without tensor cores are made of. Operands lie in shared memory with the summed extent first,
// (depth, 64), so that a step of the sum reads 16 bytes of each.
#pragma once

#include "kernels/cuda/attention.cuh"

namespace tenon::cuda::TENON_SM::attention_parts {

constexpr int kTile = 64;   // rows and columns of a product
constexpr int kDepth = 32;  // of it that lie in shared memory at a time
constexpr int kRow = 68;    // floats from one step of the depth to the next
constexpr int kFmaThreads = 256;

// The thread's part of a product.
struct Part {
  float x[4][4];
  __device__ __forceinline__ static int row() { return static_cast<int>(threadIdx.x) / 16 * 4; }
  __device__ __forceinline__ static int column() { return static_cast<int>(threadIdx.x) % 16 * 4; }
};

// sum += a^T b
__device__ __forceinline__ void multiply(Part& sum, const float* a,  // (depth, kTile)
                                         const float* b,             // (depth, kTile)
                                         int depth) {
  a += Part::row();
  b += Part::column();
#pragma unroll 4
  for (int k = 0; k < depth; ++k, a += kRow, b += kRow) {
    const float4 u = *reinterpret_cast<const float4*>(a);
    const float4 v = *reinterpret_cast<const float4*>(b);
    const float rows[4] = {u.x, u.y, u.z, u.w}, columns[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum.x[i][j] = fmaf(rows[i], columns[j], sum.x[i][j]);
    }
  }
}

// to[d][row] = from[row][first + d] for kTile rows; zero from `rows` and from `width` on.
template <class T>
__device__ __forceinline__ void load_transposed(float* to, const T* from, int64_t stride, int rows,
                                                int first, int width) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kFmaThreads) {
    const int row = i / kDepth, d = i % kDepth;
    const bool valid = row < rows && first + d < width;
    to[d * kRow + row] = valid ? to_float(from[row * stride + first + d]) : 0.0f;
  }
}

// to[row][d] = from[row][first + d] for kDepth rows of kTile; zero from `rows` and `width` on.
template <class T>
__device__ __forceinline__ void load_rows(float* to, const T* from, int64_t stride, int rows,
                                          int first, int width) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kFmaThreads) {
    const int row = i / kTile, d = i % kTile;
    const bool valid = row < rows && first + d < width;
    to[row * kRow + d] = valid ? to_float(from[row * stride + first + d]) : 0.0f;
  }
}

// Rows of an operand as they lie: `count` of them, `stride` apart.
template <class T>
struct Rows {
  const T* data;
  int64_t stride;
  int count;
};

// product[i][j] = a[i] . b[j] over `width` elements. Ends with other threads still reading the two
// buffers, (kDepth, kTile) each.
template <class T>
__device__ __forceinline__ Part dot_products(const Rows<T>& a, const Rows<T>& b, int width,
                                             float* left, float* right) {
  Part product = {};
  for (int d = 0; d < width; d += kDepth) {
    __syncthreads();
    load_transposed(left, a.data, a.stride, a.count, d, width);
    load_transposed(right, b.data, b.stride, b.count, d, width);
    __syncthreads();
    multiply(product, left, right, min(kDepth, width - d));
  }
  return product;
}

// sum += weights^T b[..][first ...] with weights (b's rows, kTile).
template <class T>
__device__ __forceinline__ void add_weighted_rows(Part& sum, const float* weights, const Rows<T>& b,
                                                  int first, int width, float* right) {
  for (int row = 0; row < b.count; row += kDepth) {
    __syncthreads();
    load_rows(right, b.data + row * b.stride, b.stride, b.count - row, first, width);
    __syncthreads();
    multiply(sum, weights + row * kRow, right, min(kDepth, b.count - row));
  }
}

// to[row][column], or to[column][row]: the latter is what add_weighted_rows needs to sum over
// columns.
__device__ __forceinline__ void store_part(float* to, const Part& part) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    *reinterpret_cast<float4*>(to + (Part::row() + i) * kRow + Part::column()) =
        make_float4(part.x[i][0], part.x[i][1], part.x[i][2], part.x[i][3]);
  }
}
__device__ __forceinline__ void store_part_transposed(float* to, const Part& part) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    *reinterpret_cast<float4*>(to + (Part::column() + j) * kRow + Part::row()) =
        make_float4(part.x[0][j], part.x[1][j], part.x[2][j], part.x[3][j]);
  }
}

// Rounds the part to rows `stride` apart, of which `rows` x `width` exist.
template <class T>
__device__ __forceinline__ void write_part(T* to, int64_t stride, int rows, int width,
                                           const Part& part) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = Part::row() + i, column = Part::column() + j;
      if (row < rows && column < width) to[row * stride + column] = from_float<T>(part.x[i][j]);
    }
  }
}

// Dropout's factors for the part's four keys of one query.
__device__ __forceinline__ void keep_of_row(const Dropout& dropout, int query, int key,
                                            float (&keep)[4]) {
  const PhiloxBlock block =
      philox_block(dropout.random, dropout.row(query) + static_cast<uint64_t>(key / 4));
#pragma unroll
  for (int j = 0; j < 4; ++j) keep[j] = dropout.keep(block.word[j]);
}

}  // namespace tenon::cuda::TENON_SM::attention_parts
