// SPDX-License-Identifier: Apache-2.0
// What the attention kernels share: their launchers, what a block of queries sees, and dropout.
//
// Letters as in core/kernel_table.h. Tokens are counted in int: a sequence is shorter than 2^31.
#pragma once

#include <type_traits>

#include "core/kernel_table.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {

// Every dtype and head size, by fp32 multiplications.
void attention_by_fma(const AttentionArgs& a);
// delta (B, H, queries): rowsum(dout out).
void attention_grad_by_fma(const AttentionGradArgs& g, const float* delta);

// fp16, and bf16 where kHasBf16Mma, on tensor cores. Requires: head_size <= kMmaHead.
constexpr int kMmaHead = 256;
void attention_by_mma(const AttentionArgs& a);
void attention_grad_by_mma(const AttentionGradArgs& g, const float* delta);

// Few queries: the keys are split among blocks. Requires: no lse, no dropout.
void attention_decode(const AttentionArgs& a);

namespace attention_parts {

constexpr int kScratchSlot = 0;

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }

// Where a token's head begins.
template <class T>
__device__ __forceinline__ const T* query_of(const AttentionArgs& a, int64_t sequence, int query,
                                             int head) {
  return static_cast<const T*>(a.q) + (sequence * a.queries + query) * a.q_stride +
         head * a.head_size;
}
template <class T>
__device__ __forceinline__ const T* key_of(const AttentionArgs& a, const void* k, int64_t sequence,
                                           int key, int kv_head) {
  return static_cast<const T*>(k) + sequence * a.kv_batch_stride + key * a.kv_stride +
         kv_head * a.head_size;
}
// Of out and dout; `of_out` keeps the const of its array.
template <class T, class Void>
__device__ __forceinline__ auto of_out(const AttentionArgs& a, Void* out, int64_t sequence,
                                       int query, int head) {
  return static_cast<std::conditional_t<std::is_const_v<Void>, const T, T>*>(out) +
         (sequence * a.queries + query) * a.out_stride + head * a.head_size;
}
// Of lse and delta, (B, H, queries).
__device__ __forceinline__ int64_t row_of(const AttentionArgs& a, int64_t sequence, int query,
                                          int head) {
  return (sequence * a.heads + head) * a.queries + query;
}

// The keys [start, last] that one query sees; none where start > last.
struct Keys {
  int start, last;
  __device__ __forceinline__ bool hide(int key) const { return key < start || key > last; }
};
__device__ __forceinline__ Keys keys_of(const AttentionArgs& a, int64_t sequence, int query) {
  const int start =
      a.doc_start == nullptr || query >= a.queries ? 0 : a.doc_start[sequence * a.queries + query];
  return {start, static_cast<int>(query + a.keys - a.queries)};
}

// What a block of queries sees, as far as whole blocks of keys are concerned.
struct Sight {
  int first_key, end_key;         // no query sees keys before or from here
  int common_first, common_last;  // every query sees what is between
  __device__ __forceinline__ bool sees(int key, int count) const {
    return key < end_key && key + count > first_key;
  }
  // Whether some of these keys are hidden from some of the queries.
  __device__ __forceinline__ bool hides(int key, int count) const {
    return key < common_first || key + count - 1 > common_last;
  }
};

// For `count` queries from `query` on. Every warp finds out for itself; all its lanes take part.
__device__ __forceinline__ Sight sight_of(const AttentionArgs& a, int64_t sequence, int query,
                                          int count) {
  const int offset = static_cast<int>(a.keys - a.queries);
  const int end = static_cast<int>(smaller(query + count, a.queries));
  Sight s = {0, static_cast<int>(larger(end + offset, 0)), 0, query + offset};
  if (a.doc_start == nullptr) return s;
  int least = static_cast<int>(a.keys), most = 0;
  for (int i = query + lane_of_thread(); i < end; i += kWarp) {
    const int start = a.doc_start[sequence * a.queries + i];
    least = min(least, start);
    most = max(most, start);
  }
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    least = min(least, __shfl_xor_sync(kAllLanes, least, step));
    most = max(most, __shfl_xor_sync(kAllLanes, most, step));
  }
  s.first_key = least;
  s.common_first = most;
  return s;
}

// Dropout of the probabilities of one head: Philox block (row(query) + key / 4) holds the words of
// four keys.
struct Dropout {
  RandomStream random;
  uint64_t row0, quads;
  uint32_t threshold;
  float factor;

  __device__ __forceinline__ uint64_t row(int query) const {
    return (row0 + static_cast<uint64_t>(query)) * quads;
  }
  __device__ __forceinline__ float keep(uint32_t word) const {
    return word < threshold ? 0.0f : factor;
  }
};
__device__ __forceinline__ Dropout dropout_of(const AttentionArgs& a, int64_t sequence, int head) {
  return {a.random,
          ((a.sequence0 + static_cast<uint64_t>(sequence)) * static_cast<uint64_t>(a.heads) +
           static_cast<uint64_t>(head)) *
              static_cast<uint64_t>(a.queries),
          static_cast<uint64_t>(divide_up(a.keys, 4)), dropout_threshold(a.dropout),
          1.0f / (1.0f - a.dropout)};
}

}  // namespace attention_parts
}  // namespace tenon::cuda::TENON_SM
