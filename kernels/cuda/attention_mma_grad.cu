// SPDX-License-Identifier: Apache-2.0
// Computes    with P = exp(scale q k^T - lse), Z dropout's factors, dP = Z dout v^T and
//             dS = P (dP - delta): dv = (P Z)^T dout, dk = scale dS^T q, dq = scale dS k, on tensor
//             cores (FlashAttention-2: Dao 2023, arXiv:2307.08691).
// Layout      as attention_mma.cu.
// Work split  a block owns 64 or 32 keys of one key/value head, for all query heads of its group,
//             or as many queries of one head; a warp 16 of them. Each gradient has one owner, so
//             there are no atomics; P and dP are computed twice.
// Numerics    fp32 scores and sums, in the order of heads and queries (dk, dv) and of keys (dq);
//             P Z and dS are rounded to the dtype for their products, `scale` comes after the sums.
// Traffic     each block reads q and dout, or k and v, as far as they see each other, from the
//             second-level cache; with asynchronous copies the next tiles come during the products.
#include "kernels/cuda/attention_mma.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

using namespace attention_parts;

template <int kHead>
struct Shape {
  static constexpr int kOwned = kHead <= 128 ? 64 : 32;                       // rows of a block
  static constexpr int kVisited = kHead <= 64 ? 64 : kHead <= 128 ? 32 : 16;  // rows of a step
  static constexpr int kBuffers = kHasCpAsync ? 2 : 1;                        // of visited rows
  static constexpr int kThreads = kOwned / kWarpRows * kWarp;
  static constexpr int kStride = kTileStride<kHead>;
  static constexpr int kVisitedSize = kVisited * kStride;
  // Two tiles owned, two visited in each buffer, and lse and delta of visited queries.
  static constexpr int kBytes = 2 * (kOwned * kStride + kBuffers * kVisitedSize) * 2 +
                                kBuffers * 2 * kVisited * static_cast<int>(sizeof(float));
  static_assert(kBytes <= kSharedBytes);
};

// Which of dk and dv a block computes: both are more than the registers hold where heads are long.
enum class Which { kBoth, kKeys, kValues };

// The tiles of queries, of all heads of a group, that see a block's keys.
template <int kCount>
struct QueryTiles {
  int64_t sequence;
  int key, keys;              // the block's
  int first_query, end_head;  // the first tile of each head; the head after the group's last
  int head, query;            // where we are

  __device__ __forceinline__ bool valid() const { return head < end_head; }
  // Goes on to the next tile that sees the keys, from here on.
  __device__ __forceinline__ void settle(const AttentionArgs& a) {
    while (valid()) {
      if (query >= a.queries) {
        query = first_query;
        ++head;
      } else if (a.doc_start != nullptr && !sight_of(a, sequence, query, kCount).sees(key, keys)) {
        query += kCount;
      } else {
        return;
      }
    }
  }
  __device__ __forceinline__ QueryTiles next(const AttentionArgs& a) const {
    QueryTiles tiles = *this;
    tiles.query += kCount;
    tiles.settle(a);
    return tiles;
  }
};

// p: scores, ds: dP without dropout, rows keys and columns queries. They become P Z and dS.
template <int kCount>
__device__ __forceinline__ void score_gradients_of_keys(
    const AttentionArgs& a, const QueryTiles<kCount>& tile, int warp_row, const float* lse,
    const float* delta, Accumulator (&p)[kCount / 8], Accumulator (&ds)[kCount / 8]) {
  const int lane = lane_of_thread(), key = tile.key + warp_row + lane / 4;  // and 8 further on
  const bool masked = sight_of(a, tile.sequence, tile.query, kCount).hides(tile.key, tile.keys);
  const Dropout dropout = dropout_of(a, tile.sequence, tile.head);
#pragma unroll
  for (int n = 0; n < kCount / 8; ++n) {
    const int column = n * 8 + lane % 4 * 2, query = tile.query + column;
    Accumulator keep = {{1, 1, 1, 1}};
    if (a.dropout > 0)
      keep = keep_of_keys(dropout, dropout.row(query), dropout.row(query + 1), tile.key + warp_row);
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      Keys keys = {0, 0};
      if (masked) keys = keys_of(a, tile.sequence, query + odd);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int i = 2 * r + odd;
        const bool hidden = masked && keys.hide(key + 8 * r);
        const float share = hidden ? 0.0f : __expf(fmaf(p[n].d[i], a.scale, -lse[column + odd]));
        p[n].d[i] = share * keep.d[i];
        ds[n].d[i] = share * (ds[n].d[i] * keep.d[i] - delta[column + odd]);
      }
    }
  }
}

template <class T, int kHead, Which kWhich>
__global__ void __launch_bounds__(Shape<kHead>::kThreads)
    attention_mma_key_grad_kernel(AttentionGradArgs g, const float* delta) {
  using S = Shape<kHead>;
  using Tiles = QueryTiles<S::kVisited>;
  const AttentionArgs& a = g.forward;
  T* const k = dynamic_shared<T>();          // (kOwned, kHead)
  T* const v = k + S::kOwned * S::kStride;   // (kOwned, kHead)
  T* const q0 = v + S::kOwned * S::kStride;  // (kBuffers, kVisited, kHead)
  T* const dout0 = q0 + S::kBuffers * S::kVisitedSize;
  auto* const lse0 = reinterpret_cast<float*>(dout0 + S::kBuffers * S::kVisitedSize);
  float* const delta0 = lse0 + S::kBuffers * S::kVisited;  // (kBuffers, kVisited), as lse0
  const int key = static_cast<int>(blockIdx.x) * S::kOwned;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int64_t sequence = blockIdx.z;
  const int width = static_cast<int>(a.head_size);
  const int group = static_cast<int>(a.heads / a.kv_heads);
  const int keys = static_cast<int>(smaller(S::kOwned, a.keys - key));
  const int warp_row = warp_of_thread() * kWarpRows;

  const auto load = [&](const Tiles& tile, int buffer) {
    const int rows = static_cast<int>(a.queries) - tile.query;
    load_tile<S::kVisited, kHead>(q0 + buffer * S::kVisitedSize,
                                  query_of<T>(a, sequence, tile.query, tile.head), a.q_stride, rows,
                                  width);
    load_tile<S::kVisited, kHead>(dout0 + buffer * S::kVisitedSize,
                                  of_out<T>(a, g.dout, sequence, tile.query, tile.head),
                                  a.out_stride, rows, width);
    const int64_t row = row_of(a, sequence, tile.query, tile.head);
    const int i = static_cast<int>(threadIdx.x);
    if (i < S::kVisited) {
      const int from = i < rows ? i : 0;
      copy_async<4>(lse0 + buffer * S::kVisited + i, a.lse + row + from, i < rows);
      copy_async<4>(delta0 + buffer * S::kVisited + i, delta + row + from, i < rows);
    }
    copy_async_commit();
  };

  const int first_query =
      static_cast<int>(larger(key + a.queries - a.keys, 0)) / S::kVisited * S::kVisited;  // causal
  Tiles tile = {.sequence = sequence,
                .key = key,
                .keys = S::kOwned,
                .first_query = first_query,
                .end_head = (kv_head + 1) * group,
                .head = kv_head * group,
                .query = first_query};
  tile.settle(a);
  load_tile<S::kOwned, kHead>(k, key_of<T>(a, a.k, sequence, key, kv_head), a.kv_stride, keys,
                              width);
  load_tile<S::kOwned, kHead>(v, key_of<T>(a, a.v, sequence, key, kv_head), a.kv_stride, keys,
                              width);
  copy_async_commit();
  if (tile.valid()) load(tile, 0);
  Accumulator dk[kWhich == Which::kValues ? 1 : kHead / 8] = {};
  Accumulator dv[kWhich == Which::kKeys ? 1 : kHead / 8] = {};
  for (int buffer = 0; tile.valid(); buffer = (buffer + 1) % S::kBuffers) {
    const Tiles next = tile.next(a);
    copy_async_wait<0>();
    __syncthreads();  // this buffer has arrived, and nobody reads the other any more
    if (S::kBuffers > 1 && next.valid()) load(next, buffer ^ 1);
    const T* q = q0 + buffer * S::kVisitedSize;
    const T* dout = dout0 + buffer * S::kVisitedSize;
    Accumulator p[S::kVisited / 8], ds[S::kVisited / 8] = {};
    dot_products<kHead, S::kVisited>(p, k + warp_row * S::kStride, q);
    if constexpr (kWhich != Which::kValues)
      dot_products<kHead, S::kVisited>(ds, v + warp_row * S::kStride, dout);
    score_gradients_of_keys(a, tile, warp_row, lse0 + buffer * S::kVisited,
                            delta0 + buffer * S::kVisited, p, ds);
    if constexpr (kWhich != Which::kKeys) add_weighted_rows<kHead, S::kVisited>(dv, p, dout);
    if constexpr (kWhich != Which::kValues) add_weighted_rows<kHead, S::kVisited>(dk, ds, q);
    tile = next;
    if (S::kBuffers == 1) {
      __syncthreads();
      if (tile.valid()) load(tile, 0);
    }
  }
  copy_async_wait<0>();
  __syncthreads();  // the places of k and v take dk and dv

  const int64_t at = (sequence * a.keys + key + warp_row) * g.dkv_stride + kv_head * a.head_size;
  if constexpr (kWhich != Which::kValues) {
    store_rows<kHead>(k + warp_row * S::kStride, dk, a.scale, a.scale, static_cast<T*>(g.dk) + at,
                      g.dkv_stride, keys - warp_row, width);
  }
  if constexpr (kWhich != Which::kKeys) {
    store_rows<kHead>(v + warp_row * S::kStride, dv, 1.0f, 1.0f, static_cast<T*>(g.dv) + at,
                      g.dkv_stride, keys - warp_row, width);
  }
}

// The same with queries for rows and keys, from `key` on, for columns: p becomes dS.
template <int kScores>
__device__ __forceinline__ void score_gradients_of_queries(
    const AttentionArgs& a, const Dropout& dropout, const Keys (&keys)[2], bool masked, int query,
    int key, const float (&lse)[2], const float (&delta)[2], Accumulator (&p)[kScores],
    const Accumulator (&dp)[kScores]) {
  const int first = key + lane_of_thread() % 4 * 2;
#pragma unroll
  for (int n = 0; n < kScores; ++n) {
    Accumulator keep = {{1, 1, 1, 1}};
    if (a.dropout > 0)
      keep = keep_of_queries(dropout, dropout.row(query), dropout.row(query + 8), key + n * 8);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = i / 2;
      const bool hidden = masked && keys[r].hide(first + n * 8 + i % 2);
      const float share = hidden ? 0.0f : __expf(fmaf(p[n].d[i], a.scale, -lse[r]));
      p[n].d[i] = share * (dp[n].d[i] * keep.d[i] - delta[r]);
    }
  }
}

template <class T, int kHead>
__global__ void __launch_bounds__(Shape<kHead>::kThreads)
    attention_mma_query_grad_kernel(AttentionGradArgs g, const float* delta_of_rows) {
  using S = Shape<kHead>;
  const AttentionArgs& a = g.forward;
  T* const q = dynamic_shared<T>();                  // (kOwned, kHead)
  T* const dout = q + S::kOwned * S::kStride;        // (kOwned, kHead)
  T* const k0 = dout + S::kOwned * S::kStride;       // (kBuffers, kVisited, kHead)
  T* const v0 = k0 + S::kBuffers * S::kVisitedSize;  // (kBuffers, kVisited, kHead)
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * S::kOwned;
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / static_cast<int>(a.heads / a.kv_heads);
  const int64_t sequence = blockIdx.z;
  const int width = static_cast<int>(a.head_size);
  const int queries = static_cast<int>(a.queries) - first_query;  // from here on
  const int warp_row = warp_of_thread() * kWarpRows;
  const int query = first_query + warp_row + lane_of_thread() / 4;  // and 8 further on
  const Dropout dropout = dropout_of(a, sequence, head);
  const Sight sight = sight_of(a, sequence, first_query, S::kOwned);
  Keys keys[2];
  float lse[2], delta[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const bool exists = query + 8 * r < a.queries;
    const int64_t row = row_of(a, sequence, query + 8 * r, head);
    keys[r] = keys_of(a, sequence, query + 8 * r);
    lse[r] = exists ? a.lse[row] : 0.0f;
    delta[r] = exists ? delta_of_rows[row] : 0.0f;
  }
  const auto load = [&](int key, int buffer) {
    const int at = buffer * S::kVisitedSize, rows = sight.end_key - key;
    load_tile<S::kVisited, kHead>(k0 + at, key_of<T>(a, a.k, sequence, key, kv_head), a.kv_stride,
                                  rows, width);
    load_tile<S::kVisited, kHead>(v0 + at, key_of<T>(a, a.v, sequence, key, kv_head), a.kv_stride,
                                  rows, width);
    copy_async_commit();
  };

  load_tile<S::kOwned, kHead>(q, query_of<T>(a, sequence, first_query, head), a.q_stride, queries,
                              width);
  load_tile<S::kOwned, kHead>(dout, of_out<T>(a, g.dout, sequence, first_query, head), a.out_stride,
                              queries, width);
  copy_async_commit();
  int key = sight.first_key / S::kVisited * S::kVisited;
  if (key < sight.end_key) load(key, 0);
  Accumulator dq[kHead / 8] = {};
  for (int buffer = 0; key < sight.end_key; buffer = (buffer + 1) % S::kBuffers) {
    const int next = key + S::kVisited;
    copy_async_wait<0>();
    __syncthreads();  // this buffer has arrived, and nobody reads the other any more
    if (S::kBuffers > 1 && next < sight.end_key) load(next, buffer ^ 1);
    const T* k = k0 + buffer * S::kVisitedSize;
    Accumulator p[S::kVisited / 8], dp[S::kVisited / 8];
    dot_products<kHead, S::kVisited>(p, q + warp_row * S::kStride, k);
    dot_products<kHead, S::kVisited>(dp, dout + warp_row * S::kStride,
                                     v0 + buffer * S::kVisitedSize);
    score_gradients_of_queries(a, dropout, keys, sight.hides(key, S::kVisited), query, key, lse,
                               delta, p, dp);
    add_weighted_rows<kHead, S::kVisited>(dq, p, k);
    key = next;
    if (S::kBuffers == 1) {
      __syncthreads();
      if (key < sight.end_key) load(key, 0);
    }
  }
  copy_async_wait<0>();
  __syncthreads();  // q's place takes dq
  store_rows<kHead>(q + warp_row * S::kStride, dq, a.scale, a.scale,
                    static_cast<T*>(g.dq) +
                        (sequence * a.queries + first_query + warp_row) * g.dq_stride +
                        head * a.head_size,
                    g.dq_stride, queries - warp_row, width);
}

}  // namespace

void attention_grad_by_mma(const AttentionGradArgs& g, const float* delta) {
  const AttentionArgs& a = g.forward;
  dispatch_head(a.dtype, a.head_size, [&]<class T, int kHead>() {
    using S = Shape<kHead>;
    const dim3 keys = extent(divide_up(a.keys, S::kOwned), a.kv_heads, a.batch);
    const dim3 queries = extent(divide_up(a.queries, S::kOwned), a.heads, a.batch);
    const auto key_grad = [&](auto kernel) {
      launch("attention_mma_key_grad", kernel, keys, S::kThreads, S::kBytes, g, delta);
    };
    if constexpr (kHead <= 128) {
      key_grad(attention_mma_key_grad_kernel<T, kHead, Which::kBoth>);
    } else {
      key_grad(attention_mma_key_grad_kernel<T, kHead, Which::kKeys>);
      key_grad(attention_mma_key_grad_kernel<T, kHead, Which::kValues>);
    }
    launch("attention_mma_query_grad", attention_mma_query_grad_kernel<T, kHead>, queries,
           S::kThreads, S::kBytes, g, delta);
  });
}

}  // namespace tenon::cuda::TENON_SM
