// SPDX-License-Identifier: Apache-2.0
// Computes    out = softmax(scale q k^T, causal and within the document) v for a few queries after
//             many keys, as in generation.
// Layout      q, k, v and out as they lie, k and v in one array or in pages. Between the two kernels, in fp32, for each split of the
//             keys: its maximum and sum, (B, H, queries, splits, 2), and its part of out relative
//             to that maximum, (B, H, queries, splits, D).
// Work split  a block has 128 keys and 4 of the queries and heads that share a key/value head, so
//             that grouped heads read k and v once for four; then a block combines the splits of a
//             row. The splits do not depend on the device.
// Numerics    fp32 sums in a fixed order, rounded once.
// Traffic     reads k and v once for each four rows: bound by memory.
#include "core/device.h"
#include "kernels/cuda/attention.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

using namespace attention_parts;

constexpr int kSplit = 128;  // keys of a block
constexpr int kRows = 4;     // rows of a block: one for each warp in the softmax
constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kLanes = 8;     // that share a key in the scores, 16 bytes or more each
constexpr int kColumns = 64;  // of v that a block reads at a time, two a lane

struct Splits {
  float *sums, *parts;
  int count;  // of the longest sequence
};

__device__ __forceinline__ int keys_in(const AttentionArgs& a, int64_t sequence) {
  return static_cast<int>(a.paged.pages == nullptr ? a.keys : a.paged.past[sequence] + a.queries);
}

// Where a key's head begins in k, or a value's in v.
struct KeyArray {
  const void* data;
  int64_t paged_offset;
};
template <class T>
__device__ __forceinline__ const T* row_of_key(const AttentionArgs& a, KeyArray array,
                                               int64_t sequence, int key, int kv_head) {
  if (a.paged.pages == nullptr) return key_of<T>(a, array.data, sequence, key, kv_head);
  const void* const page = a.paged.pages[sequence * a.paged.most_pages + key / kPageTokens];
  return static_cast<const T*>(page) + array.paged_offset + key % kPageTokens * a.kv_stride +
         kv_head * a.head_size;
}

// The block's rows: those from `first` on among the queries and heads of a key/value head.
struct BlockRows {
  int first, count;
  int head0, queries;
  __device__ __forceinline__ int head(int i) const { return head0 + (first + i) / queries; }
  __device__ __forceinline__ int query(int i) const { return (first + i) % queries; }
};

template <class T>
__device__ __forceinline__ bool loads_at_once(const AttentionArgs& a, KeyArray array, int bytes) {
  const int64_t between = a.paged.pages == nullptr ? a.kv_batch_stride : array.paged_offset;
  const uint64_t steps = static_cast<uint64_t>(a.kv_stride) | static_cast<uint64_t>(between) |
                         static_cast<uint64_t>(a.head_size);
  return (reinterpret_cast<uintptr_t>(array.data) | steps * sizeof(T)) %
             static_cast<uint64_t>(bytes) ==
         0;
}

// scores[row][key]: the block's 128 keys, hidden ones -infinity. q: (kRows, D) in shared memory.
template <class T>
__device__ __forceinline__ void split_scores(const AttentionArgs& a, const BlockRows& rows,
                                             int64_t sequence, int first_key, int kv_head,
                                             const float* q, float* scores) {
  const int width = static_cast<int>(a.head_size), lane = lane_of_thread();
  const int part = lane % kLanes;
  const KeyArray array = {a.k, a.paged.key_offset};
  const bool aligned = loads_at_once<T>(a, array, 16);
  const int keys = keys_in(a, sequence), queries = static_cast<int>(a.queries);
  constexpr int kStep = kThreads / kLanes;  // keys at a time
  for (int i = static_cast<int>(threadIdx.x) / kLanes; i < kSplit; i += kStep) {
    const int key = first_key + i;
    float sum[kRows] = {};
    if (key < keys) {
      const T* k = row_of_key<T>(a, array, sequence, key, kv_head);
      for (int d = part * 8; d < width; d += kLanes * 8) {
        const Floats<8> x = load<8>(k + d, width - d, aligned);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int e = 0; e < 8; ++e) {
            if (d + e < width) sum[r] = fmaf(x[e], q[r * width + d + e], sum[r]);
          }
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int step = kLanes / 2; step > 0; step /= 2)
        sum[r] += __shfl_xor_sync(kAllLanes, sum[r], step);
      if (part != 0) continue;
      const int query = rows.query(r);
      const Keys seen = {keys_of(a, sequence, query).start, query + keys - queries};
      const bool hidden = key >= keys || r >= rows.count || seen.hide(key);
      scores[r * kSplit + i] = hidden ? -infinity() : sum[r] * a.scale;
    }
  }
}

struct RowSums {
  float maximum, sum;
};

// A row of scores becomes probabilities relative to its maximum; by one warp.
__device__ __forceinline__ RowSums softmax(float* row) {
  float maximum = -infinity(), sum = 0;
  for (int i = lane_of_thread(); i < kSplit; i += kWarp) maximum = fmaxf(maximum, row[i]);
  maximum = warp_max(maximum);
  const float base = maximum == -infinity() ? 0.0f : maximum;
  for (int i = lane_of_thread(); i < kSplit; i += kWarp) {
    row[i] = expf(row[i] - base);
    sum += row[i];
  }
  return {maximum, warp_sum(sum)};
}

// The warp's share of probabilities times v, columns [column, column + kColumns): every fourth key.
template <class T>
__device__ __forceinline__ void weigh_values(const AttentionArgs& a, int64_t sequence,
                                             int first_key, int kv_head, int column,
                                             const float* probabilities, float* share) {
  const int keys = min(kSplit, keys_in(a, sequence) - first_key);
  const int d = column + lane_of_thread() * 2;
  const KeyArray array = {a.v, a.paged.value_offset};
  const bool aligned = loads_at_once<T>(a, array, 2 * static_cast<int>(sizeof(T)));
  float out[kRows][2] = {};
#pragma unroll 4
  for (int i = warp_of_thread(); i < keys; i += kWarps) {
    const T* v = row_of_key<T>(a, array, sequence, first_key + i, kv_head);
    const Floats<2> x = load<2>(v + d, a.head_size - d, aligned);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float p = probabilities[r * kSplit + i];
      out[r][0] = fmaf(p, x[0], out[r][0]);
      out[r][1] = fmaf(p, x[1], out[r][1]);
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    share[r * kColumns + lane_of_thread() * 2] = out[r][0];
    share[r * kColumns + lane_of_thread() * 2 + 1] = out[r][1];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) attention_split_kernel(AttentionArgs a, Splits to) {
  TENON_SHARED(float, scores, kRows* kSplit);            // then probabilities
  TENON_SHARED(float, shares, kWarps* kRows* kColumns);  // of the output, one for each warp
  auto* const q = dynamic_shared<float>();               // (kRows, D)
  const int group = static_cast<int>(a.heads / a.kv_heads), queries = static_cast<int>(a.queries);
  const int chunks = static_cast<int>(divide_up(group * queries, kRows));
  const int kv_head = static_cast<int>(blockIdx.y) / chunks;
  const int first = static_cast<int>(blockIdx.y) % chunks * kRows;
  const int64_t sequence = blockIdx.z;
  const int split = static_cast<int>(blockIdx.x), first_key = split * kSplit;
  if (first_key >= keys_in(a, sequence)) return;
  const int width = static_cast<int>(a.head_size);
  const int thread = static_cast<int>(threadIdx.x), warp = warp_of_thread();
  const BlockRows rows = {first, min(kRows, group * queries - first), kv_head * group, queries};
  const auto slot = [&](int r) {
    return row_of(a, sequence, rows.query(r), rows.head(r)) * to.count + split;
  };
  for (int i = thread; i < kRows * width; i += kThreads) {
    const int r = i / width;
    q[i] = r < rows.count
               ? to_float(query_of<T>(a, sequence, rows.query(r), rows.head(r))[i % width])
               : 0.0f;
  }
  __syncthreads();
  split_scores<T>(a, rows, sequence, first_key, kv_head, q, scores);
  __syncthreads();
  const RowSums sums = softmax(scores + warp * kSplit);
  if (lane_of_thread() == 0 && warp < rows.count) {
    to.sums[slot(warp) * 2] = sums.maximum;
    to.sums[slot(warp) * 2 + 1] = sums.sum;
  }
  __syncthreads();
  for (int column = 0; column < width; column += kColumns) {
    weigh_values<T>(a, sequence, first_key, kv_head, column, scores,
                    shares + warp * kRows * kColumns);
    __syncthreads();
    for (int i = thread; i < rows.count * kColumns; i += kThreads) {
      const int r = i / kColumns, c = i % kColumns;
      float total = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += shares[(w * kRows + r) * kColumns + c];
      if (column + c < width) to.parts[slot(r) * width + column + c] = total;
    }
    __syncthreads();  // the shares may be written again
  }
}

// A block has one row of out.
template <class T>
__global__ void __launch_bounds__(kThreads) attention_combine_kernel(AttentionArgs a, Splits from) {
  const int query = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int64_t sequence = blockIdx.z;
  const int64_t row = row_of(a, sequence, query, head) * from.count;
  const int width = static_cast<int>(a.head_size);
  const int splits = static_cast<int>(divide_up(keys_in(a, sequence), kSplit));
  const float* const sums = from.sums + row * 2;
  float maximum = -infinity(), sum = 0;
  for (int s = 0; s < splits; ++s) maximum = fmaxf(maximum, sums[2 * s]);
  const float base = maximum == -infinity() ? 0.0f : maximum;
  for (int s = 0; s < splits; ++s) {
    sum = fmaf(sums[2 * s + 1], expf(sums[2 * s] - base), sum);
  }
  const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
  T* const out = of_out<T>(a, a.out, sequence, query, head);
  for (int d = static_cast<int>(threadIdx.x); d < width; d += kThreads) {
    float total = 0;
    for (int s = 0; s < splits; ++s) {
      total = fmaf(from.parts[(row + s) * width + d], expf(sums[2 * s] - base), total);
    }
    out[d] = from_float<T>(total * inverse);
  }
}

}  // namespace

void attention_decode(const AttentionArgs& a) {
  const int64_t splits = divide_up(a.keys, kSplit), parts = a.batch * a.heads * a.queries * splits;
  auto* const scratch = static_cast<float*>(device_scratch(
      kScratchSlot, parts * (a.head_size + 2) * static_cast<int64_t>(sizeof(float))));
  const Splits split = {scratch, scratch + parts * 2, static_cast<int>(splits)};
  const int64_t chunks = a.kv_heads == 0 ? 0 : divide_up(a.heads / a.kv_heads * a.queries, kRows);
  dispatch_float(a.dtype, [&]<class T>() {
    launch("attention_split", attention_split_kernel<T>,
           extent(splits, a.kv_heads * chunks, a.batch), kThreads,
           kRows * a.head_size * static_cast<int64_t>(sizeof(float)), a, split);
    launch("attention_combine", attention_combine_kernel<T>, extent(a.queries, a.heads, a.batch),
           kThreads, 0, a, split);
  });
}

}  // namespace tenon::cuda::TENON_SM
