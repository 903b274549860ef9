// SPDX-License-Identifier: Apache-2.0
// Computes    with P = exp(scale q k^T - lse), Z dropout's factors, dP = Z dout v^T and
//             dS = scale P (dP - delta): dv = (P Z)^T dout, dk = dS^T q, dq = dS k; for every dtype
//             and head size, without tensor cores.
// Layout      as attention_fma.cu.
// Work split  a block has 64 keys of one key/value head and 64 columns of dk and dv, or 64 queries
//             of one head and 64 columns of dq: each gradient has one owner, P is computed twice.
// Numerics    fp32 sums in the order of heads and queries (dk, dv) and of keys (dq), rounded once.
// Traffic     each block reads q and dout, or k and v, as far as they see each other, from the
//             second-level cache; fp32 arithmetic is the limit.
#include "kernels/cuda/attention_fma.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

using namespace attention_parts;

// One tile of queries against one tile of keys.
template <class T>
struct Meeting {
  int64_t sequence;
  int head, query, key;  // the first of each
  Rows<T> q, dout, k, v;
};

template <class T>
__device__ __forceinline__ Meeting<T> meeting_of(const AttentionGradArgs& g, int64_t sequence,
                                                 int head, int query, int key) {
  const AttentionArgs& a = g.forward;
  const int kv_head = head / static_cast<int>(a.heads / a.kv_heads);
  const int queries = static_cast<int>(smaller(kTile, a.queries - query));
  const int keys = static_cast<int>(smaller(kTile, a.keys - key));
  return {sequence,
          head,
          query,
          key,
          {query_of<T>(a, sequence, query, head), a.q_stride, queries},
          {of_out<T>(a, g.dout, sequence, query, head), a.out_stride, queries},
          {key_of<T>(a, a.k, sequence, key, kv_head), a.kv_stride, keys},
          {key_of<T>(a, a.v, sequence, key, kv_head), a.kv_stride, keys}};
}

// p = P Z and ds = dS, rows queries and columns keys.
template <class T>
__device__ __forceinline__ void score_gradients(const AttentionArgs& a, const float* delta,
                                                const Meeting<T>& m, float* left, float* right,
                                                Part& p, Part& ds) {
  const int width = static_cast<int>(a.head_size);
  p = dot_products(m.q, m.k, width, left, right);
  ds = dot_products(m.dout, m.v, width, left, right);
  const Dropout dropout = dropout_of(a, m.sequence, m.head);
  const int key = m.key + Part::column();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = m.query + Part::row() + i;
    const bool exists = query < a.queries;
    const int64_t row = row_of(a, m.sequence, query, m.head);
    const float lse_of_row = exists ? a.lse[row] : 0.0f, delta_of_row = exists ? delta[row] : 0.0f;
    const Keys keys = keys_of(a, m.sequence, query);
    float keep[4] = {1, 1, 1, 1};
    if (a.dropout > 0) keep_of_row(dropout, query, key, keep);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool hidden = !exists || keys.hide(key + j);
      const float share = hidden ? 0.0f : expf(fmaf(p.x[i][j], a.scale, -lse_of_row));
      p.x[i][j] = share * keep[j];
      ds.x[i][j] = share * (ds.x[i][j] * keep[j] - delta_of_row) * a.scale;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kFmaThreads)
    attention_fma_key_grad_kernel(AttentionGradArgs g, const float* delta) {
  TENON_SHARED(float4, left4, kDepth * kRow / 4);
  TENON_SHARED(float4, right4, kDepth * kRow / 4);
  TENON_SHARED(float4, weights4, kTile * kRow / 4);
  float* const left = &left4[0].x;
  float* const right = &right4[0].x;
  float* const weights = &weights4[0].x;  // (queries, keys)
  const AttentionArgs& a = g.forward;
  const int key = static_cast<int>(blockIdx.x) * kTile;
  const int kv_head = static_cast<int>(blockIdx.y % a.kv_heads);
  const int first_column = static_cast<int>(blockIdx.y / a.kv_heads) * kTile;
  const int64_t sequence = blockIdx.z;
  const int width = static_cast<int>(a.head_size);
  const int group = static_cast<int>(a.heads / a.kv_heads);
  const int first_query =
      static_cast<int>(larger(key + a.queries - a.keys, 0)) / kTile * kTile;  // causal
  Part dk = {}, dv = {};
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int query = first_query; query < a.queries; query += kTile) {
      if (!sight_of(a, sequence, query, kTile).sees(key, kTile)) continue;
      const Meeting<T> m = meeting_of<T>(g, sequence, head, query, key);
      Part p, ds;
      score_gradients(a, delta, m, left, right, p, ds);
      store_part(weights, p);
      add_weighted_rows(dv, weights, m.dout, first_column, width, right);
      __syncthreads();
      store_part(weights, ds);
      add_weighted_rows(dk, weights, m.q, first_column, width, right);
    }
  }
  const int64_t at =
      (sequence * a.keys + key) * g.dkv_stride + kv_head * a.head_size + first_column;
  const int keys = static_cast<int>(smaller(kTile, a.keys - key));
  write_part(static_cast<T*>(g.dk) + at, g.dkv_stride, keys, width - first_column, dk);
  write_part(static_cast<T*>(g.dv) + at, g.dkv_stride, keys, width - first_column, dv);
}

template <class T>
__global__ void __launch_bounds__(kFmaThreads)
    attention_fma_query_grad_kernel(AttentionGradArgs g, const float* delta) {
  TENON_SHARED(float4, left4, kDepth * kRow / 4);
  TENON_SHARED(float4, right4, kDepth * kRow / 4);
  TENON_SHARED(float4, weights4, kTile * kRow / 4);
  float* const left = &left4[0].x;
  float* const right = &right4[0].x;
  float* const weights = &weights4[0].x;  // (keys, queries)
  const AttentionArgs& a = g.forward;
  const int query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;  // longest first
  const int head = static_cast<int>(blockIdx.y % a.heads);
  const int first_column = static_cast<int>(blockIdx.y / a.heads) * kTile;
  const int64_t sequence = blockIdx.z;
  const int width = static_cast<int>(a.head_size);
  const Sight sight = sight_of(a, sequence, query, kTile);
  Part dq = {};
  for (int key = sight.first_key / kTile * kTile; key < sight.end_key; key += kTile) {
    const Meeting<T> m = meeting_of<T>(g, sequence, head, query, key);
    Part p, ds;
    score_gradients(a, delta, m, left, right, p, ds);
    store_part_transposed(weights, ds);
    add_weighted_rows(dq, weights, m.k, first_column, width, right);
  }
  const int64_t at =
      (sequence * a.queries + query) * g.dq_stride + head * a.head_size + first_column;
  write_part(static_cast<T*>(g.dq) + at, g.dq_stride,
             static_cast<int>(smaller(kTile, a.queries - query)), width - first_column, dq);
}

}  // namespace

void attention_grad_by_fma(const AttentionGradArgs& g, const float* delta) {
  const AttentionArgs& a = g.forward;
  const int64_t columns = divide_up(a.head_size, kTile);
  dispatch_float(a.dtype, [&]<class T>() {
    launch("attention_fma_key_grad", attention_fma_key_grad_kernel<T>,
           extent(divide_up(a.keys, kTile), a.kv_heads * columns, a.batch), kFmaThreads, 0, g,
           delta);
    launch("attention_fma_query_grad", attention_fma_query_grad_kernel<T>,
           extent(divide_up(a.queries, kTile), a.heads * columns, a.batch), kFmaThreads, 0, g,
           delta);
  });
}

}  // namespace tenon::cuda::TENON_SM
