// SPDX-License-Identifier: Apache-2.0
// What the attention kernels on tensor cores share: tiles of rows in shared memory, products of a
// warp's 16 rows with a tile, and dropout in the layout of accumulators.
//
// A tile has kHead + 8 elements from row to row: the 16 bytes more keep ldmatrix free of bank
// conflicts. Heads are padded by zeros to kHead, a multiple of 16.
#pragma once

#include TENON_ARCH
#include "kernels/cuda/attention.cuh"

namespace tenon::cuda::TENON_SM::attention_parts {

constexpr int kWarpRows = 16;  // rows of an accumulator

template <int kHead>
constexpr int kTileStride = kHead + 8;

// Whether rows of `width` elements of T from here on, `stride` apart, are made of aligned 16 bytes.
template <class T>
__device__ __forceinline__ bool in_words(const T* data, int64_t stride, int width) {
  return (reinterpret_cast<uintptr_t>(data) | static_cast<uintptr_t>(stride * 2) |
          static_cast<uintptr_t>(width * 2)) %
             16 ==
         0;
}

// Starts to copy kRows x kHead into a tile; zero from row `rows` and column `width` on.
template <int kRows, int kHead, class T>
__device__ __forceinline__ void load_tile(T* tile, const T* from, int64_t stride, int rows,
                                          int width) {
  constexpr int kWords = kHead / 8;  // of a row
  const bool words = in_words(from, stride, width);
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kWords;
       i += static_cast<int>(blockDim.x)) {
    const int row = i / kWords, column = i % kWords * 8;
    const T* source = from + row * stride + column;
    T* to = tile + row * kTileStride<kHead> + column;
    if (words) {
      const bool valid = row < rows && column < width;
      copy_async<16>(to, valid ? source : from, valid);
    } else {
#pragma unroll
      for (int d = 0; d < 8; ++d) {
        to[d] = row < rows && column + d < width ? source[d] : from_float<T>(0.0f);
      }
    }
  }
}

// Two numbers rounded to T, the first in the lower half: neighbours in a row.
template <class T>
__device__ __forceinline__ uint32_t packed(float x, float y) {
  const T pair[2] = {from_float<T>(x), from_float<T>(y)};
  uint32_t word;
  memcpy(&word, pair, sizeof(word));
  return word;
}

// The warp's accumulators (16 x kHead) go through its own 16 rows of a tile to rows in memory.
// Requires: nobody else reads those rows of the tile any more.
template <int kHead, class T>
__device__ __forceinline__ void store_rows(T* tile, const Accumulator (&x)[kHead / 8], float scale0,
                                           float scale8, T* to, int64_t stride, int rows,
                                           int width) {
  constexpr int kWords = kHead / 8;
  const int lane = lane_of_thread(), g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kWords; ++n) {
    T* at = tile + g * kTileStride<kHead> + n * 8 + 2 * t;
    *reinterpret_cast<uint32_t*>(at) = packed<T>(x[n].d[0] * scale0, x[n].d[1] * scale0);
    *reinterpret_cast<uint32_t*>(at + 8 * kTileStride<kHead>) =
        packed<T>(x[n].d[2] * scale8, x[n].d[3] * scale8);
  }
  __syncwarp();
  const bool words = in_words(to, stride, width);
  for (int i = lane; i < kWarpRows * kWords; i += kWarp) {
    const int row = i / kWords, column = i % kWords * 8;
    if (row >= rows || column >= width) continue;
    const T* from = tile + row * kTileStride<kHead> + column;
    T* target = to + row * stride + column;
    if (words) {
      *reinterpret_cast<uint4*>(target) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int d = 0; d < 8 && column + d < width; ++d) target[d] = from[d];
    }
  }
}

// product = rows columns^T over kHead: the warp's 16 rows of one tile with kColumns rows of
// another.
template <int kHead, int kColumns, class T>
__device__ __forceinline__ void dot_products(Accumulator (&product)[kColumns / 8], const T* rows,
                                             const T* columns) {
#pragma unroll
  for (Accumulator& p : product) p = {};
#pragma unroll
  for (int d = 0; d < kHead; d += kMmaK) {
    FragmentA a;
    load_a_mk(a, rows + d, kTileStride<kHead>);
#pragma unroll
    for (int n = 0; n < kColumns; n += 16) {
      FragmentB b[2];
      load_b_nk(b, columns + n * kTileStride<kHead> + d, kTileStride<kHead>);
      mma<T>(product[n / 8], a, b[0]);
      mma<T>(product[n / 8 + 1], a, b[1]);
    }
  }
}

// sum += weights rows: weights (16 x kRows) are accumulators and become, rounded to T, the left
// operand as they lie in the registers.
template <int kHead, int kRows, class T>
__device__ __forceinline__ void add_weighted_rows(Accumulator (&sum)[kHead / 8],
                                                  const Accumulator (&weights)[kRows / 8],
                                                  const T* rows) {
#pragma unroll
  for (int k = 0; k < kRows; k += kMmaK) {
    FragmentA a;
#pragma unroll
    for (int i = 0; i < kMmaK / 8; ++i) {
      const Accumulator& w = weights[k / 8 + i];
      a.r[2 * i] = packed<T>(w.d[0], w.d[1]);
      a.r[2 * i + 1] = packed<T>(w.d[2], w.d[3]);
    }
#pragma unroll
    for (int n = 0; n < kHead; n += 16) {
      FragmentB b[2];
      load_b_kn(b, rows + k * kTileStride<kHead> + n, kTileStride<kHead>);
      mma<T>(sum[n / 8], a, b[0]);
      mma<T>(sum[n / 8 + 1], a, b[1]);
    }
  }
}

__device__ __forceinline__ uint32_t pick(const PhiloxBlock& block, int i) {
  const uint32_t low = (i & 1) != 0 ? block.word[1] : block.word[0];
  const uint32_t high = (i & 1) != 0 ? block.word[3] : block.word[2];
  return (i & 2) != 0 ? high : low;
}

// Dropout's factors of an accumulator whose rows are queries (Philox rows `row0` and `row8` are the
// lane's) and whose columns are keys from `key` on, a multiple of 8. Two neighbouring lanes share
// the four keys of two queries: each computes one block and gives the other half of it.
__device__ __forceinline__ Accumulator keep_of_queries(const Dropout& dropout, uint64_t row0,
                                                       uint64_t row8, int key) {
  const int t = lane_of_thread() % 4, odd = t % 2;
  const PhiloxBlock block = philox_block(
      dropout.random, (odd != 0 ? row8 : row0) + static_cast<uint64_t>(key / 4 + t / 2));
  const float mine0 = dropout.keep(pick(block, 2 * odd));
  const float mine1 = dropout.keep(pick(block, 2 * odd + 1));
  const float got0 = dropout.keep(__shfl_xor_sync(kAllLanes, pick(block, 2 - 2 * odd), 1));
  const float got1 = dropout.keep(__shfl_xor_sync(kAllLanes, pick(block, 3 - 2 * odd), 1));
  return odd != 0 ? Accumulator{{got0, got1, mine0, mine1}}
                  : Accumulator{{mine0, mine1, got0, got1}};
}

// The same with keys for rows, from `key` on (a multiple of 16), and for columns queries, of which
// the lane has two. Four lanes, 4 apart, share the four keys of four blocks: one each.
__device__ __forceinline__ Accumulator keep_of_keys(const Dropout& dropout, uint64_t row_even,
                                                    uint64_t row_odd, int key) {
  const int g = lane_of_thread() / 4, mine = g % 4;
  const PhiloxBlock block =
      philox_block(dropout.random, (mine % 2 != 0 ? row_odd : row_even) +
                                       static_cast<uint64_t>((key + g / 4 * 4 + mine / 2 * 8) / 4));
  Accumulator keep = {};
#pragma unroll
  for (int distance = 0; distance < 4; ++distance) {
    const int other = mine ^ distance;
    const uint32_t word = __shfl_xor_sync(kAllLanes, pick(block, other), distance * 4);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i == other) keep.d[i] = dropout.keep(word);
    }
  }
  return keep;
}

// Calls body.operator()<T, kHead>() with the element type and the head size padded.
template <class Body>
void dispatch_head(DType dtype, int64_t head_size, const Body& body) {
  const auto with_type = [&]<class T>() {
    if (head_size <= 32) {
      body.template operator()<T, 32>();
    } else if (head_size <= 64) {
      body.template operator()<T, 64>();
    } else if (head_size <= 96) {
      body.template operator()<T, 96>();
    } else if (head_size <= 128) {
      body.template operator()<T, 128>();
    } else {
      body.template operator()<T, kMmaHead>();
    }
  };
  if constexpr (kHasBf16Mma) {
    if (dtype == DType::kBF16) return with_type.template operator()<bf16>();
  }
  with_type.template operator()<f16>();
}

}  // namespace tenon::cuda::TENON_SM::attention_parts
