// SPDX-License-Identifier: Apache-2.0
// Computes    out = softmax(scale q k^T, causal and within the document) v, and its log-sum-exp.
// Layout      q, k, v, out as they lie; blocks of 64 queries and 64 keys packed as fp32, or as
//             pairs of bf16 where those are multiplied faster.
// Work split  one key/value head of one sequence with all the query heads that share it; with few
//             of those for the threads, one block of queries of them. A block's result does not
//             depend on who computes it. Few queries: attention_few.cpp.
// Numerics    fp32 sums; online softmax, rescaled when a block of keys raises a query's maximum.
//             With pairs, probabilities (relative to the maximum so far) are rounded to bf16.
// Traffic     K and V are packed once (the rows of a head lie far apart, and reading them is slow),
//             then read once for each block of queries, from the second-level cache up to about
//             1500 keys of 64; key blocks that no query sees are not read.
#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/attention_few.h"
#include "kernels/cpu/kernels.h"

namespace tenon::cpu::TENON_ISA {
namespace {

using namespace flash;

struct QueryBuffers {
  float *queries, *scores, *out;  // (padded_units, kQueries), (kKeys, kQueries), (padded, kQueries)
  float* rows;                    // (kQueries, padded)
  float *maximum, *sum;           // (kQueries) so far, in units of ln(2)
  float *before, *rescale;        // (kQueries)
  RowsAhead* ahead;
};

int64_t query_size(int64_t padded) {
  return 3 * kQueries * padded + kQueries * kKeys + 4 * kQueries;
}
QueryBuffers query_buffers(Scratch& s, int64_t padded, RowsAhead* ahead) {
  const int64_t block = kQueries * padded;
  return {s.take(block),    s.take(kQueries * kKeys), s.take(block),
          s.take(block),    s.take(kQueries),         s.take(kQueries),
          s.take(kQueries), s.take(kQueries),         ahead};
}

// Scales a tile of scores, hides what a query may not see, and raises the maxima.
template <bool kMasked>
struct StoreScores {
  const QueryBlock& block;
  int64_t key, lane;  // of the product's first row and column
  float scale;        // in units of ln(2)
  float* maximum;     // (kQueries)
  RowsAhead* ahead;

  template <int kVecs>
  void operator()(const Product& p, Vec (&scores)[kTileRows][kVecs], int64_t row,
                  int64_t column) const {
    for (int v = 0; v < kVecs; ++v) {
      for (int r = 0; r < kTileRows; ++r) {
        Vec& x = scores[r][v];
        x = x * Vec::all(scale);
        if (kMasked)
          x = block.mask(x, key + row + r, lane + column + v * kLanes, Vec::all(-kInfinity));
      }
    }
    Store()(p, scores, row, column);
    for (int v = 0; v < kVecs; ++v) {
      float* largest = maximum + lane + column + v * kLanes;
      max(Vec::load(largest), max(max(scores[0][v], scores[1][v]), max(scores[2][v], scores[3][v])))
          .store(largest);
    }
    ahead->step();
  }
};

// Scores of one vector of queries at `lane` become units of probabilities (times dropout's
// factors); their sum is brought up to date, and how it and the output are to be rescaled for that.
template <class Unit>
void softmax_lane(const AttentionArgs& a, const QueryBlock& block, const QueryBuffers& to,
                  int64_t key, int64_t keys, int64_t lane) {
  const int64_t rows = block.rows_of(key, keys, lane);
  float* scores = to.scores + lane;
  const Vec before = Vec::load(to.before + lane), maximum = Vec::load(to.maximum + lane);
  // A query that has seen nothing yet keeps -infinity; its probabilities are 2^(-infinity - 0) = 0.
  const Vec base = select(equal(maximum, Vec::all(-kInfinity)), Vec::zero(), maximum);
  const Vec one = Vec::all(1.0f);
  Vec sums[4], keep[4] = {one, one, one, one};
  for (Vec& s : sums) s = Vec::zero();
  for (int64_t j = 0; j < rows; j += 4) {
    if (a.dropout > 0) block.keep_factors(key + j, lane, keep);
    for (int64_t i = 0; i < 4; ++i) {
      const Vec p = exp2(Vec::load(scores + (j + i) * kQueries) - base);
      sums[i] = sums[i] + p;
      (p * keep[i]).store(scores + (j + i) * kQueries);
    }
    for (int64_t i = 0; i < 4 && Unit::kSteps > 1; i += Unit::kSteps) {
      Unit::across(scores + (j + i) * kQueries, kQueries, Unit::kSteps, kLanes, nullptr)
          .store(scores + (j + i) / Unit::kSteps * kQueries);
    }
  }
  const Vec rescale = exp2(before - base);
  rescale.store(to.rescale + lane);
  fma(Vec::load(to.sum + lane), rescale, (sums[0] + sums[1]) + (sums[2] + sums[3]))
      .store(to.sum + lane);
}

// Adds one block of keys to the running output.
template <class Unit>
void attend_keys(const AttentionArgs& a, const QueryBlock& block, PackedKeys packed,
                 const QueryBuffers& to, int64_t key, int64_t keys) {
  const int64_t padded = padded_head(a.head_size), units = padded_units<Unit>(a.head_size);
  const bool masked = block.masked(key, keys);
  for (int64_t lane = 0; lane < block.width; lane += kLanes)
    Vec::load(to.maximum + lane).store(to.before + lane);
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    const Product scores = {.a = packed.keys + (key + begin) * units,
                            .a_row = units,
                            .a_step = 1,
                            .b = to.queries + lane,
                            .b_row = kQueries,
                            .c = to.scores + begin * kQueries + lane,
                            .c_row = kQueries,
                            .rows = end - begin,
                            .width = block.width - lane,
                            .depth = divide_up(a.head_size, Unit::kSteps)};
    const float scale = a.scale * kLog2E;
    if (masked) {
      multiply<Unit>(scores, FromZero(),
                     StoreScores<true>{block, key + begin, lane, scale, to.maximum, to.ahead});
    } else {
      multiply<Unit>(scores, FromZero(),
                     StoreScores<false>{block, key + begin, lane, scale, to.maximum, to.ahead});
    }
  });
  for (int64_t lane = 0; lane < block.width; lane += kLanes)
    softmax_lane<Unit>(a, block, to, key, keys, lane);
  block.for_runs(key, keys, [&](int64_t begin, int64_t end, int64_t lane) {
    const Product out = {.a = packed.values + (key + begin) / Unit::kSteps * padded,
                         .a_row = 1,
                         .a_step = padded,
                         .b = to.scores + begin / Unit::kSteps * kQueries + lane,
                         .b_row = kQueries,
                         .c = to.out + lane,
                         .c_row = kQueries,
                         .rows = round_up(a.head_size, 4),
                         .width = block.width - lane,
                         .depth = (end - begin) / Unit::kSteps};
    if (begin == 0) {
      multiply<Unit>(out, FromScaledC{to.rescale + lane}, Store());
    } else {
      multiply<Unit>(out, FromC(), Store());
    }
  });
}

// out / sum, transposed back to rows, and the log-sum-exp.
template <class T>
void finish(const AttentionArgs& a, const QueryBlock& block, const QueryBuffers& from, T* out,
            float* lse) {
  const int64_t padded = padded_head(a.head_size);
  transpose(from.out, kQueries, from.rows, padded, padded, round_up(block.queries, 4));
  unpack_rows(from.rows, block.queries, a.head_size, out, a.out_stride,
              [&](int64_t i) { return from.sum[i] == 0 ? 0.0f : 1 / from.sum[i]; });
  if (lse == nullptr) return;
  for (int64_t i = 0; i < block.queries; ++i)
    lse[i] = from.maximum[i] * kLn2 + __builtin_logf(from.sum[i]);
}

template <class T>
const T* query_rows(const AttentionArgs& a, int64_t sequence, int64_t head, int64_t query) {
  return static_cast<const T*>(a.q) + (sequence * a.queries + query) * a.q_stride +
         head * a.head_size;
}

// One block of queries of one head. Requires: the keys that it sees are packed.
template <class T>
void attend(const AttentionArgs& a, int64_t sequence, int64_t head, int64_t block_index,
            PackedKeys packed, const QueryBuffers& buffers) {
  const QueryBlock block(a, sequence, head, block_index);
  using Unit = typename Operand<T>::Unit;
  const int64_t padded = padded_head(a.head_size), units = padded_units<Unit>(a.head_size);
  pack_along<Unit>(query_rows<T>(a, sequence, head, block.first_query), a.q_stride, block.queries,
                   a.head_size, buffers.rows, kQueries);
  transpose(buffers.rows, units, buffers.queries, kQueries, kQueries, units);
  for (int64_t i = 0; i < kQueries * padded; ++i) buffers.out[i] = 0;
  for (int64_t i = 0; i < kQueries; ++i) {
    buffers.maximum[i] = -kInfinity;
    buffers.sum[i] = 0;
  }
  T* out = static_cast<T*>(a.out) + (sequence * a.queries + block.first_query) * a.out_stride +
           head * a.head_size;
  buffers.ahead->add(out, block.queries, a.head_size, a.out_stride);
  for (int64_t key = block.first_key(); key < block.end_key(); key += kKeys)
    attend_keys<Unit>(a, block, packed, buffers, key, smaller(kKeys, block.end_key() - key));
  float* lse = a.lse == nullptr
                   ? nullptr
                   : a.lse + (sequence * a.heads + head) * a.queries + block.first_query;
  finish(a, block, buffers, out, lse);
}

// Floats of attend_head's scratch memory.
int64_t head_floats(const AttentionArgs& a) {
  return 2 * packed_size(a) + query_size(padded_head(a.head_size));
}

// All queries of the heads that share one key/value head.
template <class T>
void attend_head(const AttentionArgs& a, int64_t sequence, int64_t kv_head) {
  const int64_t padded = padded_head(a.head_size), group = a.heads / a.kv_heads,
                size = packed_size(a);
  RowsAhead ahead;
  Scratch s(kScratchSlot, head_floats(a));
  HeadKeys<T, true> keys(a, sequence, kv_head, {s.take(size), s.take(size), nullptr});
  const QueryBuffers buffers = query_buffers(s, padded, &ahead);
  for (int64_t block = 0; block < query_blocks(a); ++block) {
    keys.pack_until(keys_seen(a, block));
    for (int64_t i = 0; i < group; ++i) {
      ahead.clear();
      const int64_t next = i + 1 < group ? block : block + 1, query = next * kQueries,
                    head = kv_head * group + (i + 1) % group;
      ahead.add(query_rows<T>(a, sequence, head, query), smaller(kQueries, a.queries - query),
                a.head_size, a.q_stride);
      keys.ask_until(keys_seen(a, next), &ahead);
      attend<T>(a, sequence, kv_head * group + i, block, keys.packed, buffers);
    }
  }
}

// The same, a task for each block of queries; K and V are packed before.
template <class T>
void attend_blocks(const AttentionArgs& a) {
  const int64_t padded = padded_head(a.head_size), group = a.heads / a.kv_heads,
                blocks = query_blocks(a), key_blocks = divide_up(a.keys, kKeys),
                size = packed_size(a), tasks = a.batch * a.kv_heads;
  float* shared = Scratch(kSharedSlot, 2 * tasks * size).take(2 * tasks * size);
  Scratch::reserve(kScratchSlot, query_size(padded));
  const auto head_keys = [&](int64_t task) {
    float* packed = shared + 2 * task * size;
    return HeadKeys<T, true>(a, task / a.kv_heads, task % a.kv_heads,
                             {packed, packed + size, nullptr});
  };
  for_chunks(tasks * key_blocks, [&](int64_t chunk) {
    const int64_t key = chunk % key_blocks * kKeys;
    head_keys(chunk / key_blocks).pack(key, smaller(a.keys, key + kKeys));
  });
  // The last blocks see most keys and come first, so that threads end together.
  for_chunks(tasks * blocks, [&](int64_t chunk) {
    const int64_t task = chunk % tasks, block = blocks - 1 - chunk / tasks;
    RowsAhead ahead;
    Scratch s(kScratchSlot, query_size(padded));
    const QueryBuffers buffers = query_buffers(s, padded, &ahead);
    for (int64_t i = 0; i < group; ++i) {
      ahead.clear();
      attend<T>(a, task / a.kv_heads, task % a.kv_heads * group + i, block, head_keys(task).packed,
                buffers);
    }
  });
}

}  // namespace

void attention(const AttentionArgs& a) {
  const int64_t tasks = a.batch * a.kv_heads;
  if (tasks * a.queries == 0) return;
  if (few_queries(a)) return attend_few(a);
  dispatch_float(a.dtype, [&]<class T>(T) {
    if (few_tasks(tasks)) return attend_blocks<T>(a);
    Scratch::reserve(kScratchSlot, head_floats(a));
    for_chunks(tasks,
               [&](int64_t task) { attend_head<T>(a, task / a.kv_heads, task % a.kv_heads); });
  });
}

}  // namespace tenon::cpu::TENON_ISA
