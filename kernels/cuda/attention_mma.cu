// SPDX-License-Identifier: Apache-2.0
// Computes    out = softmax(scale q k^T, causal and within the document) v and its log-sum-exp, on
//             tensor cores (FlashAttention-2: Dao 2023, arXiv:2307.08691).
// Layout      q, k, v and out as they lie; tiles of their rows in shared memory.
// Work split  a block has 64 queries of one head, a warp 16 of them; the longest start first.
// Numerics    fp32 scores, softmax and sums; the probabilities are rounded to the dtype for their
//             product with v, their sum is that of the unrounded ones. Online softmax.
// Traffic     each block reads k and v up to its last query, from the second-level cache: v while
//             the scores are computed, the next k during the second product.
#include "kernels/cuda/attention_mma.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

using namespace attention_parts;

template <int kHead>
struct Shape {
  static constexpr int kQueries = 64;
  static constexpr int kKeys = kHead <= 128 ? 64 : kHasCpAsync ? 32 : 16;
  static constexpr int kThreads = kQueries / kWarpRows * kWarp;
  static constexpr int kStride = kTileStride<kHead>;
  static constexpr int kBytes = (kQueries + 2 * kKeys) * kStride * 2;
  static_assert(kBytes <= kSharedBytes);
};

// The 4 lanes that share an accumulator's rows are neighbours.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// The lane's two rows, 8 apart.
struct Softmax {
  float maximum[2] = {-infinity(), -infinity()};
  float sum[2] = {0, 0};  // over the lane's own columns

  // Scores, hidden ones -infinity, become probabilities relative to the running maximum; the
  // running output follows.
  template <int kScores, int kOut>
  __device__ __forceinline__ void advance(Accumulator (&scores)[kScores],
                                          Accumulator (&out)[kOut]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = maximum[r];
#pragma unroll
      for (const Accumulator& s : scores) most = fmaxf(most, fmaxf(s.d[2 * r], s.d[2 * r + 1]));
      most = row_max(most);
      // A query that has seen nothing yet: exp(-infinity - 0) = 0.
      const float base = most == -infinity() ? 0.0f : most;
      const float rescale = __expf(maximum[r] - base);
      float added = 0;
#pragma unroll
      for (Accumulator& s : scores) {
        s.d[2 * r] = __expf(s.d[2 * r] - base);
        s.d[2 * r + 1] = __expf(s.d[2 * r + 1] - base);
        added += s.d[2 * r] + s.d[2 * r + 1];
      }
      sum[r] = fmaf(sum[r], rescale, added);
      maximum[r] = most;
#pragma unroll
      for (Accumulator& o : out) {
        o.d[2 * r] *= rescale;
        o.d[2 * r + 1] *= rescale;
      }
    }
  }
};

template <int kScores>
__device__ __forceinline__ void scale_and_hide(Accumulator (&scores)[kScores], float scale,
                                               bool masked, const Keys (&keys)[2], int key) {
  const int first = key + lane_of_thread() % 4 * 2;
#pragma unroll
  for (int n = 0; n < kScores; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool hidden = masked && keys[i / 2].hide(first + n * 8 + i % 2);
      scores[n].d[i] = hidden ? -infinity() : scores[n].d[i] * scale;
    }
  }
}

template <class T, int kHead>
__global__ void __launch_bounds__(Shape<kHead>::kThreads) attention_mma_kernel(AttentionArgs a) {
  using S = Shape<kHead>;
  T* const q = dynamic_shared<T>();           // (kQueries, kHead)
  T* const k = q + S::kQueries * S::kStride;  // (kKeys, kHead)
  T* const v = k + S::kKeys * S::kStride;     // (kKeys, kHead)
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::kQueries;
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / static_cast<int>(a.heads / a.kv_heads);
  const int64_t sequence = blockIdx.z;
  const int width = static_cast<int>(a.head_size), queries = static_cast<int>(a.queries);
  const int warp_row = warp_of_thread() * kWarpRows;
  const int query = first_query + warp_row + lane_of_thread() / 4;  // and 8 further on
  const Keys keys[2] = {keys_of(a, sequence, query), keys_of(a, sequence, query + 8)};
  const Dropout dropout = dropout_of(a, sequence, head);
  const Sight sight = sight_of(a, sequence, first_query, S::kQueries);
  const auto load = [&](T* tile, const void* from, int key) {
    load_tile<S::kKeys, kHead>(tile, key_of<T>(a, from, sequence, key, kv_head), a.kv_stride,
                               sight.end_key - key, width);
    copy_async_commit();
  };

  load_tile<S::kQueries, kHead>(q, query_of<T>(a, sequence, first_query, head), a.q_stride,
                                queries - first_query, width);
  copy_async_commit();
  int key = sight.first_key / S::kKeys * S::kKeys;
  if (key < sight.end_key) load(k, a.k, key);
  Softmax running;
  Accumulator out[kHead / 8] = {};
  for (; key < sight.end_key; key += S::kKeys) {
    copy_async_wait<0>();
    __syncthreads();  // k has arrived, and nobody reads v any more
    load(v, a.v, key);
    Accumulator p[S::kKeys / 8];
    dot_products<kHead, S::kKeys>(p, q + warp_row * S::kStride, k);
    scale_and_hide(p, a.scale, sight.hides(key, S::kKeys), keys, key);
    running.advance(p, out);
    if (a.dropout > 0) {
#pragma unroll
      for (int n = 0; n < S::kKeys / 8; ++n) {
        const Accumulator keep =
            keep_of_queries(dropout, dropout.row(query), dropout.row(query + 8), key + n * 8);
#pragma unroll
        for (int i = 0; i < 4; ++i) p[n].d[i] *= keep.d[i];
      }
    }
    copy_async_wait<0>();
    __syncthreads();  // v has arrived, and nobody reads k any more
    if (key + S::kKeys < sight.end_key) load(k, a.k, key + S::kKeys);
    add_weighted_rows<kHead, S::kKeys>(out, p, v);
  }
  copy_async_wait<0>();
  __syncthreads();  // q's place takes out

  float inverse[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float sum = row_sum(running.sum[r]);
    inverse[r] = sum == 0.0f ? 0.0f : 1.0f / sum;
    if (a.lse != nullptr && lane_of_thread() % 4 == 0 && query + 8 * r < queries) {
      a.lse[row_of(a, sequence, query + 8 * r, head)] = running.maximum[r] + logf(sum);
    }
  }
  store_rows<kHead>(q + warp_row * S::kStride, out, inverse[0], inverse[1],
                    of_out<T>(a, a.out, sequence, first_query + warp_row, head), a.out_stride,
                    queries - first_query - warp_row, width);
}

}  // namespace

void attention_by_mma(const AttentionArgs& a) {
  dispatch_head(a.dtype, a.head_size, [&]<class T, int kHead>() {
    using S = Shape<kHead>;
    launch("attention_mma", attention_mma_kernel<T, kHead>,
           extent(divide_up(a.queries, S::kQueries), a.heads, a.batch), S::kThreads, S::kBytes, a);
  });
}

}  // namespace tenon::cuda::TENON_SM
