// SPDX-License-Identifier: Apache-2.0
// Computes    out = softmax(scale q k^T, causal and within the document) v and its log-sum-exp, for
//             every dtype and head size, without tensor cores.
// Layout      q, k, v and out as they lie; operands of a product are widened into shared memory.
// Work split  a block has 64 queries of one head and 64 columns of out; for head sizes above 64 the
//             blocks of one query tile compute the same scores.
// Numerics    fp32 sums; online softmax, rescaled when a tile of keys raises a query's maximum.
// Traffic     each block reads k, and 64 columns of v, up to its last query, from the second-level
//             cache; fp32 arithmetic is the limit.
#include "kernels/cuda/attention_fma.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

using namespace attention_parts;

// The 16 threads that share the part's rows are neighbours in a warp.
__device__ __forceinline__ float row_max(float x) {
#pragma unroll
  for (int step = 8; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
  for (int step = 8; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

struct Softmax {
  float maximum[4], sum[4];  // of the part's rows so far
};

// Scores become probabilities relative to the running maximum (times dropout's factors); the
// running maximum, sum and output follow.
__device__ __forceinline__ void softmax(const AttentionArgs& a, const Dropout& dropout,
                                        int64_t sequence, int query, int key, Softmax& running,
                                        Part& scores, Part& out) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Keys keys = keys_of(a, sequence, query + i);
    float maximum = running.maximum[i];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      scores.x[i][j] = keys.hide(key + j) ? -infinity() : scores.x[i][j] * a.scale;
      maximum = fmaxf(maximum, scores.x[i][j]);
    }
    maximum = row_max(maximum);
    // A query that has seen nothing yet: exp(-infinity - 0) = 0.
    const float base = maximum == -infinity() ? 0.0f : maximum;
    float sum = 0, keep[4] = {1, 1, 1, 1};
    if (a.dropout > 0) keep_of_row(dropout, query + i, key, keep);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float p = expf(scores.x[i][j] - base);
      sum += p;
      scores.x[i][j] = p * keep[j];
    }
    const float rescale = expf(running.maximum[i] - base);
    running.sum[i] = fmaf(running.sum[i], rescale, row_sum(sum));
    running.maximum[i] = maximum;
#pragma unroll
    for (int j = 0; j < 4; ++j) out.x[i][j] *= rescale;
  }
}

template <class T>
__global__ void __launch_bounds__(kFmaThreads) attention_fma_kernel(AttentionArgs a) {
  TENON_SHARED(float4, left4, kDepth * kRow / 4);
  TENON_SHARED(float4, right4, kDepth * kRow / 4);
  TENON_SHARED(float4, p4, kTile * kRow / 4);
  float* const left = &left4[0].x;
  float* const right = &right4[0].x;
  float* const p = &p4[0].x;                                                     // (keys, queries)
  const int first_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;  // longest first
  const int head = static_cast<int>(blockIdx.y % a.heads);
  const int kv_head = head / static_cast<int>(a.heads / a.kv_heads);
  const int first_column = static_cast<int>(blockIdx.y / a.heads) * kTile;
  const int64_t sequence = blockIdx.z;
  const int width = static_cast<int>(a.head_size);
  const int queries = static_cast<int>(smaller(kTile, a.queries - first_query));
  const int query = first_query + Part::row();
  const Dropout dropout = dropout_of(a, sequence, head);
  const Sight sight = sight_of(a, sequence, first_query, kTile);
  const Rows<T> q = {query_of<T>(a, sequence, first_query, head), a.q_stride, queries};
  Part out = {};
  Softmax running;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    running.maximum[i] = -infinity();
    running.sum[i] = 0;
  }
  for (int key = sight.first_key / kTile * kTile; key < sight.end_key; key += kTile) {
    const int keys = min(kTile, sight.end_key - key);
    const Rows<T> k = {key_of<T>(a, a.k, sequence, key, kv_head), a.kv_stride, keys};
    const Rows<T> v = {key_of<T>(a, a.v, sequence, key, kv_head), a.kv_stride, keys};
    Part scores = dot_products(q, k, width, left, right);
    softmax(a, dropout, sequence, query, key + Part::column(), running, scores, out);
    store_part_transposed(p, scores);
    add_weighted_rows(out, p, v, first_column, width, right);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float sum = running.sum[i], inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
    for (int j = 0; j < 4; ++j) out.x[i][j] *= inverse;
    if (a.lse != nullptr && first_column == 0 && Part::column() == 0 && query + i < a.queries) {
      a.lse[row_of(a, sequence, query + i, head)] = running.maximum[i] + logf(sum);
    }
  }
  write_part(of_out<T>(a, a.out, sequence, first_query, head) + first_column, a.out_stride, queries,
             width - first_column, out);
}

}  // namespace

void attention_by_fma(const AttentionArgs& a) {
  const dim3 blocks =
      extent(divide_up(a.queries, kTile), a.heads * divide_up(a.head_size, kTile), a.batch);
  dispatch_float(a.dtype, [&]<class T>() {
    launch("attention_fma", attention_fma_kernel<T>, blocks, kFmaThreads, 0, a);
  });
}

}  // namespace tenon::cuda::TENON_SM
