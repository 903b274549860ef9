// SPDX-License-Identifier: Apache-2.0
// The gradients of one block of queries, and what they add to those of the keys. The formulas and
// their letters: attention_grad.cpp.
#pragma once

#include "kernels/cpu/attention_block.h"

namespace tenon::cpu::TENON_ISA::flash {

// dK and dV of one key/value head, or one part's share of them: (keys, padded) each.
struct KeyGrads {
  float *keys, *values;
};

struct GradBuffers {
  float *queries, *dout;      // (kQueries / steps, padded): units across
  float *queries_t, *dout_t;  // (padded_units, kQueries): units along
  float *rows, *dqueries;     // (kQueries, padded)
  float *scores, *dscores;    // (kKeys, kQueries)
  // The same as units, those of fp32 in their place: (kKeys, kQueries / steps) along the queries,
  // and (kKeys / steps, kQueries).
  float *scores_along, *dscores_along, *dscores_across;
  float *lse, *delta;  // (kQueries), lse in units of ln(2)
  RowsAhead* ahead;
};

inline int64_t grad_size(int64_t padded) {
  return 6 * kQueries * padded + 5 * kKeys * kQueries + 2 * kQueries;
}
template <class Unit>
GradBuffers grad_buffers(Scratch& s, int64_t padded, RowsAhead* ahead) {
  const int64_t block = kQueries * padded, scores = kKeys * kQueries;
  GradBuffers b = {s.take(block), s.take(block), s.take(block),  s.take(block),
                   s.take(block), s.take(block), s.take(scores), s.take(scores)};
  b.scores_along = Unit::kSteps == 1 ? b.scores : s.take(scores);
  b.dscores_along = Unit::kSteps == 1 ? b.dscores : s.take(scores);
  b.dscores_across = Unit::kSteps == 1 ? b.dscores : s.take(scores);
  b.lse = s.take(kQueries);
  b.delta = s.take(kQueries);
  b.ahead = ahead;
  return b;
}

// The probabilities of a tile of scores.
template <bool kMasked>
struct StoreProbabilities {
  const QueryBlock& block;
  int64_t key, lane;  // of the product's first row and column
  float scale;        // of the scores, in units of ln(2)
  const float* lse;   // (kQueries)
  RowsAhead* ahead;

  template <int kVecs>
  void operator()(const Product& p, Vec (&scores)[kTileRows][kVecs], int64_t row,
                  int64_t column) const {
    for (int v = 0; v < kVecs; ++v) {
      const int64_t query = lane + column + v * kLanes;
      const Vec minus_lse = Vec::zero() - Vec::load(lse + query);
      for (int r = 0; r < kTileRows; ++r) {
        Vec& x = scores[r][v];
        x = exp2(fma(x, Vec::all(scale), minus_lse));
        if (kMasked) x = block.mask(x, key + row + r, query, Vec::zero());
      }
    }
    Store()(p, scores, row, column);
    ahead->step();
  }
};

// A tile of dP / Z becomes one of dS; P becomes P Z.
template <bool kDropout>
struct StoreScoreGrads {
  const QueryBlock& block;
  int64_t key, lane;
  float* probabilities;  // as the product's c
  const float* delta;    // (kQueries)
  RowsAhead* ahead;

  template <int kVecs>
  void operator()(const Product& p, Vec (&dscores)[kTileRows][kVecs], int64_t row,
                  int64_t column) const {
    for (int v = 0; v < kVecs; ++v) {
      const int64_t query = lane + column + v * kLanes;
      const Vec minus_delta = Vec::zero() - Vec::load(delta + query);
      Vec keep[kTileRows];
      if (kDropout) block.keep_factors(key + row, query, keep);
      for (int r = 0; r < kTileRows; ++r) {
        float* at = probabilities + (row + r) * p.c_row + column + v * kLanes;
        const Vec probability = Vec::load(at);
        if (kDropout) (probability * keep[r]).store(at);
        Vec& x = dscores[r][v];
        x = probability * (kDropout ? fma(x, keep[r], minus_delta) : x + minus_delta);
      }
    }
    Store()(p, dscores, row, column);
    ahead->step();
  }
};

// P Z and dS of the queries from `lane` on with the keys from `begin` to `end` of a block of keys.
template <class Unit, bool kMasked, bool kDropout>
void score_gradients(const AttentionArgs& a, const QueryBlock& block, PackedKeys packed,
                     const GradBuffers& to, int64_t key, int64_t begin, int64_t end, int64_t lane) {
  const int64_t units = padded_units<Unit>(a.head_size), at = begin * kQueries + lane;
  Product p = {.a = packed.keys + (key + begin) * units,
               .a_row = units,
               .a_step = 1,
               .b = to.queries_t + lane,
               .b_row = kQueries,
               .c = to.scores + at,
               .c_row = kQueries,
               .rows = end - begin,
               .width = block.width - lane,
               .depth = divide_up(a.head_size, Unit::kSteps)};
  multiply<Unit>(
      p, FromZero(),
      StoreProbabilities<kMasked>{block, key + begin, lane, a.scale * kLog2E, to.lse, to.ahead});
  p.a = packed.values + (key + begin) * units;
  p.b = to.dout_t + lane;
  p.c = to.dscores + at;
  multiply<Unit>(
      p, FromZero(),
      StoreScoreGrads<kDropout>{block, key + begin, lane, to.scores + at, to.delta, to.ahead});
}

// Packs them as units both ways.
template <class Unit>
void pack_scores(const GradBuffers& to, int64_t begin, int64_t end, int64_t lane, int64_t width) {
  for (int64_t j = begin; j < end; ++j) {
    for (int64_t i = lane; i < width; i += kLanes * Unit::kSteps) {
      const int64_t from = j * kQueries + i;
      Unit::along(to.scores + from, width - i, 1).store(to.scores_along + from / Unit::kSteps);
      Unit::along(to.dscores + from, width - i, 1).store(to.dscores_along + from / Unit::kSteps);
    }
  }
  for (int64_t j = begin; j < end; j += Unit::kSteps) {
    for (int64_t i = lane; i < width; i += kLanes) {
      Unit::across(to.dscores + j * kQueries + i, kQueries, Unit::kSteps, kLanes, nullptr)
          .store(to.dscores_across + j / Unit::kSteps * kQueries + i);
    }
  }
}

// One block of queries against one block of keys.
template <class Unit>
void gradients_of_keys(const AttentionArgs& a, const QueryBlock& block, PackedKeys packed,
                       const GradBuffers& to, KeyGrads grads, int64_t key, int64_t keys) {
  const int64_t padded = padded_head(a.head_size), at = key * padded;
  constexpr int64_t kSteps = Unit::kSteps;
  const bool masked = block.masked(key, keys);
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    if (a.dropout > 0) {
      score_gradients<Unit, true, true>(a, block, packed, to, key, begin, end, lane);
    } else if (masked) {
      score_gradients<Unit, true, false>(a, block, packed, to, key, begin, end, lane);
    } else {
      score_gradients<Unit, false, false>(a, block, packed, to, key, begin, end, lane);
    }
    if (kSteps > 1) pack_scores<Unit>(to, begin, end, lane, block.width);
  });
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    Product p = {.a = to.scores_along + (begin * kQueries + lane) / kSteps,
                 .a_row = kQueries / kSteps,
                 .a_step = 1,
                 .b = to.dout + lane / kSteps * padded,
                 .b_row = padded,
                 .c = grads.values + at + begin * padded,
                 .c_row = padded,
                 .rows = end - begin,
                 .width = padded,
                 .depth = divide_up(block.queries - lane, kSteps)};
    multiply<Unit>(p, FromC(), Store());
    p.a = to.dscores_along + (begin * kQueries + lane) / kSteps;
    p.b = to.queries + lane / kSteps * padded;
    p.c = grads.keys + at + begin * padded;
    multiply<Unit>(p, FromC(), Store());
    p = {.a = to.dscores_across + begin / kSteps * kQueries + lane,
         .a_row = 1,
         .a_step = kQueries,
         .b = packed.keys_across + (key + begin) / kSteps * padded,
         .b_row = padded,
         .c = to.dqueries + lane * padded,
         .c_row = padded,
         .rows = round_up(block.queries - lane, 4),
         .width = padded,
         .depth = (end - begin) / kSteps};
    multiply<Unit>(p, FromC(), Store());
  });
}

// Packs q and dout both ways round; delta = rowsum(dout out). A query that saw nothing has lse
// -infinity; what it did not see is hidden, so any finite number will do.
template <class T>
void load_queries(const AttentionGradArgs& g, const QueryBlock& block, const GradBuffers& to,
                  int64_t sequence, int64_t head) {
  using Unit = typename Operand<T>::Unit;
  const AttentionArgs& a = g.forward;
  const int64_t padded = padded_head(a.head_size), units = padded_units<Unit>(a.head_size),
                token = sequence * a.queries + block.first_query, rows = block.queries,
                at = token * a.out_stride + head * a.head_size;
  const T* q = static_cast<const T*>(a.q) + token * a.q_stride + head * a.head_size;
  const T *dout = static_cast<const T*>(g.dout) + at, *out = static_cast<const T*>(a.out) + at;
  pack_along<Unit>(q, a.q_stride, rows, a.head_size, to.rows, kQueries);
  transpose(to.rows, units, to.queries_t, kQueries, kQueries, units);
  pack_across<Unit>(q, a.q_stride, rows, a.head_size, to.queries, kQueries);
  pack_along<Unit>(dout, a.out_stride, rows, a.head_size, to.rows, kQueries);
  transpose(to.rows, units, to.dout_t, kQueries, kQueries, units);
  pack_across<Unit>(dout, a.out_stride, rows, a.head_size, to.dout, kQueries);
  const float* lse = a.lse + (sequence * a.heads + head) * a.queries + block.first_query;
  for (int64_t i = 0; i < kQueries; ++i) {
    to.lse[i] = i < rows && lse[i] != -kInfinity ? lse[i] * kLog2E : 0;
    Vec sum = Vec::zero();
    for (int64_t d = 0; d < a.head_size && i < rows; d += kLanes) {
      const int64_t from = i * a.out_stride + d, left = a.head_size - d;
      __builtin_prefetch(out + from + kRowsAhead * a.out_stride);
      sum = fma(load_some(out + from, left), load_some(dout + from, left), sum);
    }
    to.delta[i] = sum.sum();
  }
  for (int64_t i = 0; i < kQueries * padded; ++i) to.dqueries[i] = 0;
}

// One block of queries of one head. Requires: the keys that it sees are packed.
template <class T>
void gradients_of_queries(const AttentionGradArgs& g, const QueryBlock& block, int64_t sequence,
                          int64_t head, PackedKeys packed, const GradBuffers& buffers,
                          KeyGrads grads) {
  const AttentionArgs& a = g.forward;
  load_queries<T>(g, block, buffers, sequence, head);
  T* dq = static_cast<T*>(g.dq) + (sequence * a.queries + block.first_query) * g.dq_stride +
          head * a.head_size;
  buffers.ahead->add(dq, block.queries, a.head_size, g.dq_stride);
  for (int64_t key = block.first_key(); key < block.end_key(); key += kKeys) {
    gradients_of_keys<typename Operand<T>::Unit>(a, block, packed, buffers, grads, key,
                                                 smaller(kKeys, block.end_key() - key));
  }
  unpack_rows(buffers.dqueries, block.queries, a.head_size, dq, g.dq_stride,
              [&](int64_t) { return a.scale; });
}

}  // namespace tenon::cpu::TENON_ISA::flash
