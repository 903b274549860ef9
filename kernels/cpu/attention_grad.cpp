// SPDX-License-Identifier: Apache-2.0
// Computes    with P = exp(scale q k^T - lse), Z dropout's factors, dP = Z dout v^T and
//             dS = scale P (dP - rowsum(dout out)): dv = (P Z)^T dout, dk = dS^T q, dq = dS k.
// Layout      as attention.cpp; K, V, dK and dV of one head packed as fp32 for the whole sequence.
// Work split  one key/value head of one sequence, so that dk and dv have one owner; its query heads
//             and their blocks in order.
// Numerics    fp32 sums in the order of the queries (dk, dv) and of the keys (dq), rounded once.
// Traffic     packed K, V, dK and dV once for each block of queries, from the second-level cache up
//             to about 1000 keys of 64, else from the third.
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/kernels.h"

namespace tenon::cpu::TENON_ISA {
namespace {

using namespace flash;

struct GradBuffers {
  float *keys, *values, *dkeys, *dvalues;  // (keys, padded): the whole sequence
  float *queries, *dout;                   // (kQueries, padded)
  float *queries_t, *dout_t, *dqueries_t;  // (padded, kQueries)
  float *scores, *dscores;                 // (kKeys, kQueries)
  float *lse, *delta;                      // (kQueries)
};

GradBuffers grad_buffers(int64_t keys, int64_t padded) {
  const int64_t all = round_up(keys, 4) * padded, block = kQueries * padded,
                scores = kKeys * kQueries;
  Scratch s(4 * (all + 16) + 5 * block + 2 * scores + 2 * kQueries);
  return {s.take(all),    s.take(all),      s.take(all),     s.take(all),   s.take(block),
          s.take(block),  s.take(block),    s.take(block),   s.take(block), s.take(scores),
          s.take(scores), s.take(kQueries), s.take(kQueries)};
}

// Scores of one vector of queries become P Z, and dP becomes dS.
template <bool kMasked>
void score_gradients(const AttentionArgs& a, const QueryBlock& block, const GradBuffers& to,
                     int64_t key, int64_t keys, int64_t lane) {
  const int64_t rows = block.rows_of(key, keys, lane);
  const Vec scale = Vec::all(a.scale), minus_lse = Vec::zero() - Vec::load(to.lse + lane);
  const Vec delta = Vec::load(to.delta + lane), one = Vec::all(1.0f);
  Vec keep[4] = {one, one, one, one};
  for (int64_t j = 0; j < rows; j += 4) {
    if (a.dropout > 0) block.keep_factors(key + j, lane, keep);
    for (int64_t i = 0; i < 4; ++i) {
      float* score = to.scores + (j + i) * kQueries + lane;
      float* dscore = to.dscores + (j + i) * kQueries + lane;
      Vec p = exp(fma(Vec::load(score), scale, minus_lse));
      if (kMasked) p = block.mask(p, key + j + i, lane, Vec::zero());
      const Vec dp = Vec::load(dscore) * keep[i];
      (p * keep[i]).store(score);
      (p * (dp - delta) * scale).store(dscore);
    }
  }
}

// One block of queries against one block of keys.
void gradients_of_keys(const AttentionArgs& a, const QueryBlock& block, const GradBuffers& to,
                       int64_t key, int64_t keys) {
  const int64_t padded = padded_head(a.head_size), at = key * padded;
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    Product p = {.a = to.keys + at + begin * padded,
                 .a_row = padded,
                 .a_step = 1,
                 .b = to.queries_t + lane,
                 .b_row = kQueries,
                 .c = to.scores + begin * kQueries + lane,
                 .c_row = kQueries,
                 .rows = end - begin,
                 .width = block.width - lane,
                 .depth = a.head_size};
    multiply<false>(p);
    p.a = to.values + at + begin * padded;
    p.b = to.dout_t + lane;
    p.c = to.dscores + begin * kQueries + lane;
    multiply<false>(p);
  });
  const bool masked = block.masked(key, keys);
  for (int64_t lane = 0; lane < block.width; lane += kLanes) {
    if (masked) {
      score_gradients<true>(a, block, to, key, keys, lane);
    } else {
      score_gradients<false>(a, block, to, key, keys, lane);
    }
  }
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    Product p = {.a = to.scores + begin * kQueries + lane,
                 .a_row = kQueries,
                 .a_step = 1,
                 .b = to.dout + lane * padded,
                 .b_row = padded,
                 .c = to.dvalues + at + begin * padded,
                 .c_row = padded,
                 .rows = end - begin,
                 .width = padded,
                 .depth = block.queries - lane};
    multiply<true>(p);
    p.a = to.dscores + begin * kQueries + lane;
    p.b = to.queries + lane * padded;
    p.c = to.dkeys + at + begin * padded;
    multiply<true>(p);
    multiply<true>({.a = to.keys + at + begin * padded,
                    .a_row = 1,
                    .a_step = padded,
                    .b = to.dscores + begin * kQueries + lane,
                    .b_row = kQueries,
                    .c = to.dqueries_t + lane,
                    .c_row = kQueries,
                    .rows = round_up(a.head_size, 4),
                    .width = block.width - lane,
                    .depth = end - begin});
  });
}

// Packs q and dout both ways round; delta = rowsum(dout out). A query that saw nothing has lse
// -infinity; what it did not see is hidden, so any finite number will do.
template <class T>
void load_queries(const AttentionGradArgs& g, const QueryBlock& block, const GradBuffers& to,
                  int64_t sequence, int64_t head) {
  const AttentionArgs& a = g.forward;
  const int64_t padded = padded_head(a.head_size), token = sequence * a.queries + block.first_query;
  const int64_t in = token * a.q_stride + head * a.head_size,
                out = token * a.out_stride + head * a.head_size;
  pack_rows(static_cast<const T*>(a.q) + in, a.q_stride, block.queries, a.head_size, to.queries,
            kQueries);
  pack_rows(static_cast<const T*>(g.dout) + out, a.out_stride, block.queries, a.head_size, to.dout,
            kQueries);
  transpose(to.queries, padded, to.queries_t, kQueries, kQueries, padded);
  transpose(to.dout, padded, to.dout_t, kQueries, kQueries, padded);
  const float* lse = a.lse + (sequence * a.heads + head) * a.queries + block.first_query;
  for (int64_t i = 0; i < kQueries; ++i) {
    to.lse[i] = i < block.queries && lse[i] != -kInfinity ? lse[i] : 0;
    Vec sum = Vec::zero();
    for (int64_t d = 0; d < a.head_size && i < block.queries; d += kLanes) {
      const T* o = static_cast<const T*>(a.out) + out + i * a.out_stride + d;
      __builtin_prefetch(o + kRowsAhead * a.out_stride);
      sum = fma(Vec::load(o, a.head_size - d), Vec::load(to.dout + i * padded + d), sum);
    }
    to.delta[i] = sum.sum();
  }
  for (int64_t i = 0; i < kQueries * padded; ++i) to.dqueries_t[i] = 0;
}

template <class T>
void gradients_of_head(const AttentionGradArgs& g, int64_t sequence, int64_t kv_head) {
  const AttentionArgs& a = g.forward;
  const int64_t padded = padded_head(a.head_size), group = a.heads / a.kv_heads,
                rows = round_up(a.keys, 4);
  const GradBuffers buffers = grad_buffers(a.keys, padded);
  const int64_t kv = sequence * a.kv_batch_stride + kv_head * a.head_size;
  pack_rows(static_cast<const T*>(a.k) + kv, a.kv_stride, a.keys, a.head_size, buffers.keys, rows);
  pack_rows(static_cast<const T*>(a.v) + kv, a.kv_stride, a.keys, a.head_size, buffers.values,
            rows);
  for (int64_t i = 0; i < rows * padded; ++i) buffers.dkeys[i] = buffers.dvalues[i] = 0;
  for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int64_t b = 0; b < divide_up(a.queries, kQueries); ++b) {
      const QueryBlock block(a, sequence, head, b);
      load_queries<T>(g, block, buffers, sequence, head);
      for (int64_t key = block.first_key(); key < block.end_key(); key += kKeys) {
        gradients_of_keys(a, block, buffers, key, smaller(kKeys, block.end_key() - key));
      }
      // The packed queries are no longer needed: their place takes dq.
      transpose(buffers.dqueries_t, kQueries, buffers.queries, padded, padded, kQueries);
      const int64_t token = sequence * a.queries + block.first_query;
      unpack_rows(buffers.queries, block.queries, a.head_size,
                  static_cast<T*>(g.dq) + token * g.dq_stride + head * a.head_size, g.dq_stride);
    }
  }
  const int64_t out = sequence * a.keys * g.dkv_stride + kv_head * a.head_size;
  unpack_rows(buffers.dkeys, a.keys, a.head_size, static_cast<T*>(g.dk) + out, g.dkv_stride);
  unpack_rows(buffers.dvalues, a.keys, a.head_size, static_cast<T*>(g.dv) + out, g.dkv_stride);
}

}  // namespace

void attention_grad(const AttentionGradArgs& g) {
  const AttentionArgs& a = g.forward;
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_chunks(a.batch * a.kv_heads, [&](int64_t chunk) {
      gradients_of_head<T>(g, chunk / a.kv_heads, chunk % a.kv_heads);
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
