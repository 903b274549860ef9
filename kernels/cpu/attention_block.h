// SPDX-License-Identifier: Apache-2.0
// What attention and its gradient share: one block of queries against one block of keys.
//
// Scores lie transposed, S[key][query], with the queries in the lanes: the maximum and the sum of a
// softmax are then taken lane by lane, K and V are read as they lie (each element broadcast), and
// only the queries are transposed, once for all key blocks. Packed arrays are fp32 with heads
// padded by zeros to a multiple of the lanes (and of 4).
#pragma once

#include "core/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA::flash {

constexpr int64_t kQueries = 64;  // queries of a block, hence the row length of S
constexpr int64_t kKeys = 64;     // keys of a block
constexpr int64_t kGrain = 16;    // masked scores are skipped in groups of this many queries
constexpr int kScratchSlot = 6;

const float kInfinity = __builtin_inff();

constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }
inline int64_t padded_head(int64_t head_size) { return round_up(head_size, larger(kLanes, 4)); }

// Hands out pieces of one block of the thread's scratch memory, each aligned to a cache line.
class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : next_(static_cast<float*>(thread_scratch(kScratchSlot, floats * 4))) {}
  float* take(int64_t floats) {
    float* taken = next_;
    next_ += round_up(floats, 16);
    return taken;
  }

 private:
  float* next_;
};

// A product of small matrices that lie in the first- or second-level cache:
//   c[r][x] (+)= sum over k < depth of a[r * a_row + k * a_step] * b[k * b_row + x],  r < rows, x <
//   width.
// Requires: rows a multiple of 4, width a multiple of the lanes.
struct Product {
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  int64_t rows, width, depth;
};

constexpr int kTileRows = 4;
constexpr int kTileVecs = kLanes == 16 ? 4 : 2;  // 16 of 32 registers are sums, or 8 of 16

template <bool kAdd, int kVecs>
inline void multiply_tile(const Product& p, int64_t row, int64_t column) {
  Vec sums[kTileRows][kVecs];
  float* c = p.c + row * p.c_row + column;
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVecs; ++v)
      sums[r][v] = kAdd ? Vec::load(c + r * p.c_row + v * kLanes) : Vec::zero();
  }
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  for (int64_t k = 0; k < p.depth; ++k, a += p.a_step, b += p.b_row) {
    Vec bs[kVecs];
    for (int v = 0; v < kVecs; ++v) bs[v] = Vec::load(b + v * kLanes);
    for (int r = 0; r < kTileRows; ++r) {
      const Vec x = Vec::all(a[r * p.a_row]);
      for (int v = 0; v < kVecs; ++v) sums[r][v] = fma(x, bs[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVecs; ++v) sums[r][v].store(c + r * p.c_row + v * kLanes);
  }
}

template <bool kAdd>
void multiply(const Product& p) {
  for (int64_t column = 0; column < p.width; column += kTileVecs * kLanes) {
    const int64_t vecs = (p.width - column) / kLanes;
    for (int64_t row = 0; row < p.rows; row += kTileRows) {
      if (vecs >= kTileVecs) {
        multiply_tile<kAdd, kTileVecs>(p, row, column);
      } else if (vecs == 3) {
        multiply_tile<kAdd, 3>(p, row, column);
      } else if (vecs == 2) {
        multiply_tile<kAdd, 2>(p, row, column);
      } else {
        multiply_tile<kAdd, 1>(p, row, column);
      }
    }
  }
}

// to[c][r] = from[r][c]. Requires: rows and columns multiples of 4.
inline void transpose(const float* from, int64_t from_row, float* to, int64_t to_row, int64_t rows,
                      int64_t columns) {
  typedef float Four __attribute__((vector_size(16)));
  typedef int32_t Order __attribute__((vector_size(16)));
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t c = 0; c < columns; c += 4) {
      Four x[4];
      for (int i = 0; i < 4; ++i) __builtin_memcpy(&x[i], from + (r + i) * from_row + c, 16);
      const Four low01 = __builtin_shuffle(x[0], x[1], Order{0, 4, 1, 5});
      const Four low23 = __builtin_shuffle(x[2], x[3], Order{0, 4, 1, 5});
      const Four high01 = __builtin_shuffle(x[0], x[1], Order{2, 6, 3, 7});
      const Four high23 = __builtin_shuffle(x[2], x[3], Order{2, 6, 3, 7});
      x[0] = __builtin_shuffle(low01, low23, Order{0, 1, 4, 5});
      x[1] = __builtin_shuffle(low01, low23, Order{2, 3, 6, 7});
      x[2] = __builtin_shuffle(high01, high23, Order{0, 1, 4, 5});
      x[3] = __builtin_shuffle(high01, high23, Order{2, 3, 6, 7});
      for (int i = 0; i < 4; ++i) __builtin_memcpy(to + (c + i) * to_row + r, &x[i], 16);
    }
  }
}

// Rows of a head lie far apart (a page or more), where the hardware does not prefetch: this many
// rows ahead is asked for.
constexpr int64_t kRowsAhead = 8;

// to (padded_rows, padded) = the first `rows` rows of `from`, widened; the rest is zero.
template <class T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t head_size, float* to,
               int64_t padded_rows) {
  const int64_t padded = padded_head(head_size);
  for (int64_t r = 0; r < padded_rows; ++r) {
    for (int64_t d = 0; d < padded; d += kLanes) {
      const int64_t left = r < rows ? head_size - d : 0;
      __builtin_prefetch(from + (r + kRowsAhead) * stride + d);
      (left > 0 ? Vec::load(from + r * stride + d, left) : Vec::zero()).store(to + r * padded + d);
    }
  }
}

// The opposite, rounding.
template <class T>
void unpack_rows(const float* from, int64_t rows, int64_t head_size, T* to, int64_t stride) {
  const int64_t padded = padded_head(head_size);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t d = 0; d < head_size; d += kLanes) {
      __builtin_prefetch(to + (r + kRowsAhead) * stride + d, 1);
      Vec::load(from + r * padded + d).store(to + r * stride + d, head_size - d);
    }
  }
}

// One block of queries of one head of one sequence: what each query sees, and its random numbers.
class QueryBlock {
 public:
  QueryBlock(const AttentionArgs& args, int64_t sequence, int64_t head, int64_t block)
      : first_query(block * kQueries),
        queries(smaller(kQueries, args.queries - first_query)),
        width(round_up(queries, kLanes)),
        a_(args),
        offset_(args.keys - args.queries) {
    const uint64_t quads = static_cast<uint64_t>(divide_up(args.keys, 4));
    const uint64_t heads = static_cast<uint64_t>(args.heads);
    const uint64_t row0 =
        ((args.sequence0 + static_cast<uint64_t>(sequence)) * heads + static_cast<uint64_t>(head)) *
            static_cast<uint64_t>(args.queries) +
        static_cast<uint64_t>(first_query);
    const int32_t* starts = args.doc_start == nullptr
                                ? nullptr
                                : args.doc_start + sequence * args.queries + first_query;
    first_start_ = starts == nullptr ? 0 : args.keys;
    for (int64_t i = 0; i < kQueries; ++i) {
      const int64_t start = starts == nullptr || i >= queries ? 0 : starts[i];
      starts_[i] = static_cast<uint32_t>(start);
      last_keys_[i] = static_cast<uint32_t>(static_cast<int32_t>(first_query + i + offset_));
      if (starts != nullptr && i < queries) {
        first_start_ = smaller(first_start_, start);
        last_start_ = larger(last_start_, start);
      }
      const uint64_t block_number = (row0 + static_cast<uint64_t>(i)) * quads;
      low_[i] = static_cast<uint32_t>(block_number);
      high_[i] = static_cast<uint32_t>(block_number >> 32);
    }
  }

  const int64_t first_query, queries;
  const int64_t width;  // queries rounded up to whole vectors

  // The key blocks that any query of the block sees are those from first_key() on, kKeys apart,
  // below end_key().
  int64_t first_key() const { return first_start_ / kKeys * kKeys; }
  int64_t end_key() const { return smaller(a_.keys, first_query + queries + offset_); }

  // Whether some of these scores, or of the rows that pad them to a multiple of 4, must be hidden.
  bool masked(int64_t key, int64_t keys) const {
    return key + round_up(keys, 4) - 1 > first_query + offset_ || last_start_ > key;
  }
  // `hidden` where query `lane + its lane` may not see this key, else x.
  Vec mask(Vec x, int64_t key, int64_t lane, Vec hidden) const {
    const IVec number = IVec::all(static_cast<uint32_t>(key));
    x = select(less_signed(IVec::load(last_keys_ + lane), number), hidden, x);
    return select(less_signed(number, IVec::load(starts_ + lane)), hidden, x);
  }

  // The first query of the block that sees `key` or a later one, rounded down to kGrain.
  int64_t first_lane(int64_t key) const {
    return larger(0, key - first_query - offset_) / kGrain * kGrain;
  }
  // Splits the keys [key, key + keys) into runs of a multiple of 4 with the same first lane:
  // body(begin, end, lane) with begin and end counted from `key`. The last run may end past `keys`,
  // in padding.
  template <class Body>
  void for_runs(int64_t key, int64_t keys, const Body& body) const {
    const int64_t padded = round_up(keys, 4);
    for (int64_t begin = 0; begin < padded;) {
      const int64_t lane = first_lane(key + begin);
      int64_t end = begin + 4;
      while (end < padded && first_lane(key + end) == lane) end += 4;
      if (lane < width) body(begin, end, lane);
      begin = end;
    }
  }
  // The number of keys (a multiple of 4) from `key` on that for_runs gives to the vector of queries
  // at `lane`.
  int64_t rows_of(int64_t key, int64_t keys, int64_t lane) const {
    int64_t rows = round_up(keys, 4);
    while (rows > 0 && first_lane(key + rows - 4) > lane) rows -= 4;
    return rows;
  }

  // keep[w] = 1 / (1 - p), or 0 where dropped, for keys key..key + 3 (key a multiple of 4) and the
  // queries at `lane`.
  void keep_factors(int64_t key, int64_t lane, Vec (&keep)[4]) const {
    IVec low = IVec::load(low_ + lane), high = IVec::load(high_ + lane), words[4];
    add_wide(low, high, IVec::all(static_cast<uint32_t>(key / 4)));
    philox_blocks(a_.random, low, high, words);
    const IVec threshold = IVec::all(dropout_threshold(a_.dropout));
    const Vec factor = Vec::all(1.0f / (1.0f - a_.dropout));
    for (int w = 0; w < 4; ++w)
      keep[w] = select(less_unsigned(words[w], threshold), Vec::zero(), factor);
  }

 private:
  const AttentionArgs& a_;
  int64_t offset_;  // query i sees keys up to i + offset
  int64_t first_start_, last_start_ = 0;
  alignas(64) uint32_t starts_[kQueries], last_keys_[kQueries];
  alignas(64) uint32_t low_[kQueries], high_[kQueries];  // Philox block of each query's key 0
};

}  // namespace tenon::cpu::TENON_ISA::flash
