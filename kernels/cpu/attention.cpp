// SPDX-License-Identifier: Apache-2.0
// Computes    out = softmax(scale q k^T, causal and within the document) v, and its log-sum-exp.
// Layout      q, k, v, out as they lie; blocks of 64 queries and 64 keys packed as fp32.
// Work split  the query blocks of the heads that share a key/value head, in as many parts as keep
//             the threads busy: a block's result does not depend on who computes it.
// Numerics    fp32 sums; online softmax, rescaled when a block of keys raises a query's maximum.
// Traffic     each part packs a key block when it first needs it (the rows of a head lie far apart,
//             and reading them is slow), then has it from the second-level cache; key blocks that
//             no query sees are not read.
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/kernels.h"

namespace tenon::cpu::TENON_ISA {
namespace {

using namespace flash;

struct ForwardBuffers {
  float *keys, *values;  // (keys, padded): the whole sequence, in blocks packed when first needed
  float *queries, *scores, *out;  // (padded, kQueries), (kKeys, kQueries), (padded, kQueries)
  float* rows;                    // (kQueries, padded)
  float *maximum, *sum;           // (kQueries) so far
  float* packed;                  // (blocks of keys): 1 where K and V are packed
};

ForwardBuffers forward_buffers(int64_t keys, int64_t padded) {
  const int64_t all = round_up(keys, 4) * padded, block = kQueries * padded,
                blocks = divide_up(keys, kKeys);
  Scratch s(2 * (all + 16) + 3 * block + kQueries * kKeys + 2 * kQueries + blocks + 16);
  return {s.take(all),   s.take(all),   s.take(block),    s.take(kQueries * kKeys),
          s.take(block), s.take(block), s.take(kQueries), s.take(kQueries),
          s.take(blocks)};
}

// Scores of one vector of queries at `lane` become probabilities (times dropout's factors); the
// running maximum, sum and output are brought up to date.
template <bool kMasked>
void softmax_lane(const AttentionArgs& a, const QueryBlock& block, const ForwardBuffers& to,
                  int64_t key, int64_t keys, int64_t lane) {
  const int64_t rows = block.rows_of(key, keys, lane);
  float* scores = to.scores + lane;
  const Vec scale = Vec::all(a.scale), hidden = Vec::all(-kInfinity);
  Vec largest[4];
  for (Vec& l : largest) l = hidden;
  for (int64_t j = 0; j < rows; j += 4) {
    for (int64_t i = 0; i < 4; ++i) {
      Vec s = Vec::load(scores + (j + i) * kQueries) * scale;
      if (kMasked) s = block.mask(s, key + j + i, lane, hidden);
      s.store(scores + (j + i) * kQueries);
      largest[i] = max(largest[i], s);
    }
  }
  const Vec before = Vec::load(to.maximum + lane);
  const Vec maximum = max(before, max(max(largest[0], largest[1]), max(largest[2], largest[3])));
  // A query that has seen nothing yet keeps -infinity; its probabilities are exp(-infinity - 0) =
  // 0.
  const Vec base = select(equal(maximum, hidden), Vec::zero(), maximum);
  const Vec one = Vec::all(1.0f);
  Vec sums[4], keep[4] = {one, one, one, one};
  for (Vec& s : sums) s = Vec::zero();
  for (int64_t j = 0; j < rows; j += 4) {
    if (a.dropout > 0) block.keep_factors(key + j, lane, keep);
    for (int64_t i = 0; i < 4; ++i) {
      const Vec p = exp(Vec::load(scores + (j + i) * kQueries) - base);
      sums[i] = sums[i] + p;
      (p * keep[i]).store(scores + (j + i) * kQueries);
    }
  }
  const Vec rescale = exp(before - base);
  const Vec sum = fma(Vec::load(to.sum + lane), rescale, (sums[0] + sums[1]) + (sums[2] + sums[3]));
  maximum.store(to.maximum + lane);
  sum.store(to.sum + lane);
  const int64_t padded = padded_head(a.head_size);
  for (int64_t d = 0; d < padded; ++d) {
    float* out = to.out + d * kQueries + lane;
    (Vec::load(out) * rescale).store(out);
  }
}

// Adds one block of keys to the running output.
void attend_keys(const AttentionArgs& a, const QueryBlock& block, const ForwardBuffers& to,
                 int64_t key, int64_t keys) {
  const int64_t padded = padded_head(a.head_size);
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    multiply<false>({.a = to.keys + (key + begin) * padded,
                     .a_row = padded,
                     .a_step = 1,
                     .b = to.queries + lane,
                     .b_row = kQueries,
                     .c = to.scores + begin * kQueries + lane,
                     .c_row = kQueries,
                     .rows = end - begin,
                     .width = block.width - lane,
                     .depth = a.head_size});
  });
  const bool masked = block.masked(key, keys);
  for (int64_t lane = 0; lane < block.width; lane += kLanes) {
    if (masked) {
      softmax_lane<true>(a, block, to, key, keys, lane);
    } else {
      softmax_lane<false>(a, block, to, key, keys, lane);
    }
  }
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    multiply<true>({.a = to.values + (key + begin) * padded,
                    .a_row = 1,
                    .a_step = padded,
                    .b = to.scores + begin * kQueries + lane,
                    .b_row = kQueries,
                    .c = to.out + lane,
                    .c_row = kQueries,
                    .rows = round_up(a.head_size, 4),
                    .width = block.width - lane,
                    .depth = end - begin});
  });
}

// out / sum, transposed back to rows, and the log-sum-exp.
template <class T>
void finish(const AttentionArgs& a, const QueryBlock& block, const ForwardBuffers& from, T* out,
            float* lse) {
  const int64_t padded = padded_head(a.head_size);
  for (int64_t lane = 0; lane < block.width; lane += kLanes) {
    const Vec sum = Vec::load(from.sum + lane);
    const Vec inverse = select(equal(sum, Vec::zero()), Vec::zero(), Vec::all(1.0f) / sum);
    for (int64_t d = 0; d < padded; ++d) {
      float* o = from.out + d * kQueries + lane;
      (Vec::load(o) * inverse).store(o);
    }
  }
  transpose(from.out, kQueries, from.rows, padded, padded, round_up(block.queries, 4));
  unpack_rows(from.rows, block.queries, a.head_size, out, a.out_stride);
  if (lse == nullptr) return;
  for (int64_t i = 0; i < block.queries; ++i)
    lse[i] = from.maximum[i] + __builtin_logf(from.sum[i]);
}

// Packs the block of keys at `key`. kv: where the head's K and V of this sequence begin.
template <class T>
void pack_keys(const AttentionArgs& a, int64_t kv, int64_t key, const ForwardBuffers& to) {
  float& packed = to.packed[key / kKeys];
  if (packed != 0) return;
  packed = 1;
  const int64_t keys = smaller(kKeys, a.keys - key), rows = round_up(keys, 4),
                from = kv + key * a.kv_stride;
  const int64_t at = key * padded_head(a.head_size);
  pack_rows(static_cast<const T*>(a.k) + from, a.kv_stride, keys, a.head_size, to.keys + at, rows);
  pack_rows(static_cast<const T*>(a.v) + from, a.kv_stride, keys, a.head_size, to.values + at,
            rows);
}

template <class T>
void attend(const AttentionArgs& a, int64_t sequence, int64_t head, int64_t block_index,
            const ForwardBuffers& buffers) {
  const QueryBlock block(a, sequence, head, block_index);
  const int64_t padded = padded_head(a.head_size), kv_head = head / (a.heads / a.kv_heads);
  const int64_t token = sequence * a.queries + block.first_query;
  const T* q = static_cast<const T*>(a.q) + token * a.q_stride + head * a.head_size;
  pack_rows(q, a.q_stride, block.queries, a.head_size, buffers.rows, kQueries);
  transpose(buffers.rows, padded, buffers.queries, kQueries, kQueries, padded);
  for (int64_t i = 0; i < kQueries * padded; ++i) buffers.out[i] = 0;
  for (int64_t i = 0; i < kQueries; ++i) {
    buffers.maximum[i] = -kInfinity;
    buffers.sum[i] = 0;
  }
  for (int64_t key = block.first_key(); key < block.end_key(); key += kKeys) {
    pack_keys<T>(a, sequence * a.kv_batch_stride + kv_head * a.head_size, key, buffers);
    attend_keys(a, block, buffers, key, smaller(kKeys, block.end_key() - key));
  }
  float* lse = a.lse == nullptr
                   ? nullptr
                   : a.lse + (sequence * a.heads + head) * a.queries + block.first_query;
  finish(a, block, buffers, static_cast<T*>(a.out) + token * a.out_stride + head * a.head_size,
         lse);
}

}  // namespace

void attention(const AttentionArgs& a) {
  const int64_t blocks = divide_up(a.queries, kQueries), groups = a.batch * a.kv_heads,
                group = a.heads / a.kv_heads;
  if (groups * blocks == 0) return;
  const int64_t parts = smaller(blocks, divide_up(4 * thread_count(), groups));
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_chunks(groups * parts, [&](int64_t chunk) {
      const int64_t sequence = chunk / parts / a.kv_heads, kv_head = chunk / parts % a.kv_heads;
      const ForwardBuffers buffers = forward_buffers(a.keys, padded_head(a.head_size));
      for (int64_t i = 0; i < divide_up(a.keys, kKeys); ++i) buffers.packed[i] = 0;
      for (int64_t block = chunk % parts; block < blocks; block += parts) {
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
          attend<T>(a, sequence, head, block, buffers);
        }
      }
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
