// SPDX-License-Identifier: Apache-2.0
// Computes    attention for a few queries a sequence: a token that is generated, against its cache.
// Layout      as they lie, in one array or in pages; K and V are not packed, for no element is used
//             often.
// Work split  pieces of 64 keys of one sequence with all of its heads, each giving a maximum, a sum
//             and an unfinished output; then tokens, which add up their pieces in order.
// Numerics    fp32 sums; a score lane by lane, then over the lanes.
// Traffic     K and V once, whole tokens (all heads) at a time, for all queries and all heads that
//             share them: bandwidth-bound.
#include "kernels/cpu/attention_few.h"

#include "kernels/cpu/attention_block.h"

namespace tenon::cpu::TENON_ISA::flash {
namespace {

constexpr int kTileKeys = 4;
constexpr int kTileQueries = 4;
// Keys between what is used and what is asked for: 1024 keys of 8 heads of 64 for 32 query heads
// take 460 us instead of 610 on Zen 4; 4 to 32 differ by 8 %.
constexpr int64_t kAhead = 8;
static_assert(kPageTokens == kKeys, "a piece of keys lies in one page");

// What a piece of keys gives. Rows: query i of head h is row h * queries + i, so that the rows that
// share a key/value head follow each other.
struct Piece {
  float *maximum, *sum;  // (rows), the maximum in units of ln(2)
  float* out;            // (rows, padded), to be divided by the sum
};

struct Few {
  const AttentionArgs& a;
  int64_t padded, rows, group_rows, pieces, piece_size;  // pieces of the longest sequence

  explicit Few(const AttentionArgs& args)
      : a(args),
        padded(padded_head(a.head_size)),
        rows(a.heads * a.queries),
        group_rows(rows / a.kv_heads),
        pieces(divide_up(a.keys, kKeys)),
        piece_size(2 * round_up(rows, 16) + rows * padded) {}

  int64_t keys(int64_t sequence) const {
    return a.paged.pages == nullptr ? a.keys : a.paged.past[sequence] + a.queries;
  }
  int64_t pieces_of(int64_t sequence) const { return divide_up(keys(sequence), kKeys); }

  // The first row of a piece of k (or v, `paged_offset` being where it lies in a page).
  template <class T>
  const T* rows_of(const void* array, int64_t paged_offset, int64_t sequence, int64_t index) const {
    if (a.paged.pages == nullptr) {
      return static_cast<const T*>(array) + sequence * a.kv_batch_stride +
             index * kKeys * a.kv_stride;
    }
    return static_cast<const T*>(a.paged.pages[sequence * a.paged.most_pages + index]) +
           paged_offset;
  }

  Piece piece(float* all, int64_t sequence, int64_t index) const {
    float* at = all + (sequence * pieces + index) * piece_size;
    return {at, at + round_up(rows, 16), at + 2 * round_up(rows, 16)};
  }
};

// The addresses of kTileKeys tokens from `key` on; past the end of a piece, of its last.
template <class T>
struct TileKeys {
  const T* at[kTileKeys];
  int64_t ahead;  // elements to what is asked for early
  TileKeys(const T* first, int64_t stride, int64_t key, int64_t keys) {
    for (int i = 0; i < kTileKeys; ++i) at[i] = first + smaller(key + i, keys - 1) * stride;
    ahead = kAhead * stride;
  }
};

// scores[r * kKeys + i] = queries[r] . keys[i]
template <int kRows, class T>
inline void score_tile(const float* queries, int64_t padded, const TileKeys<T>& keys, int64_t head,
                       int64_t head_size, float* scores) {
  Vec sums[kRows][kTileKeys];
  for (int r = 0; r < kRows; ++r) {
    for (Vec& sum : sums[r]) sum = Vec::zero();
  }
  const auto add = [&](int64_t d, const Vec(&k)[kTileKeys]) {
    for (int r = 0; r < kRows; ++r) {
      const Vec q = Vec::load(queries + r * padded + d);
      for (int i = 0; i < kTileKeys; ++i) sums[r][i] = fma(q, k[i], sums[r][i]);
    }
  };
  Vec k[kTileKeys];
  int64_t d = 0;
  for (; d + kLanes <= head_size; d += kLanes) {
    for (int i = 0; i < kTileKeys; ++i) {
      __builtin_prefetch(keys.at[i] + keys.ahead + head + d);
      k[i] = Vec::load(keys.at[i] + head + d);
    }
    add(d, k);
  }
  if (d < head_size) {
    for (int i = 0; i < kTileKeys; ++i) k[i] = Vec::load(keys.at[i] + head + d, head_size - d);
    add(d, k);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < kTileKeys; ++i) scores[r * kKeys + i] = sums[r][i].sum();
  }
}

// out[r] += sum over i of probabilities[r * kKeys + i] values[i]
template <int kRows, class T>
inline void value_tile(const float* probabilities, const TileKeys<T>& values, int64_t head,
                       int64_t head_size, float* out, int64_t padded) {
  Vec p[kRows][kTileKeys];
  for (int r = 0; r < kRows; ++r) {
    for (int i = 0; i < kTileKeys; ++i) p[r][i] = Vec::all(probabilities[r * kKeys + i]);
  }
  const auto add = [&](int64_t d, const Vec(&v)[kTileKeys]) {
    for (int r = 0; r < kRows; ++r) {
      Vec sum = Vec::load(out + r * padded + d);
      for (int i = 0; i < kTileKeys; ++i) sum = fma(p[r][i], v[i], sum);
      sum.store(out + r * padded + d);
    }
  };
  Vec v[kTileKeys];
  int64_t d = 0;
  for (; d + kLanes <= head_size; d += kLanes) {
    for (int i = 0; i < kTileKeys; ++i) {
      __builtin_prefetch(values.at[i] + values.ahead + head + d);
      v[i] = Vec::load(values.at[i] + head + d);
    }
    add(d, v);
  }
  if (d < head_size) {
    for (int i = 0; i < kTileKeys; ++i) v[i] = Vec::load(values.at[i] + head + d, head_size - d);
    add(d, v);
  }
}

// Calls tile<kRows>(row) for rows in tiles of kTileQueries or less.
template <class Tile>
inline void for_row_tiles(int64_t rows, const Tile& tile) {
  int64_t row = 0;
  for (; row + kTileQueries <= rows; row += kTileQueries)
    tile.template operator()<kTileQueries>(row);
  switch (rows - row) {
    case 3: return tile.template operator()<3>(row);
    case 2: return tile.template operator()<2>(row);
    case 1: return tile.template operator()<1>(row);
  }
}

// q of one sequence as fp32, times the scale in units of ln(2).
template <class T>
void pack_queries(const Few& few, int64_t sequence, float* to) {
  const AttentionArgs& a = few.a;
  const T* q = static_cast<const T*>(a.q) + sequence * a.queries * a.q_stride;
  for (int64_t head = 0; head < a.heads; ++head)
    pack_rows(q + head * a.head_size, a.q_stride, a.queries, a.head_size,
              to + head * a.queries * few.padded, a.queries, a.scale * kLog2E);
}

// Hides the keys that query i may not see, those from `keys` on among them; then scores become
// probabilities.
void softmax_row(const Few& few, int64_t sequence, int64_t i, int64_t key, int64_t keys,
                 float* scores, float* maximum, float* sum) {
  const AttentionArgs& a = few.a;
  const int64_t start = a.doc_start == nullptr ? 0 : a.doc_start[sequence * a.queries + i],
                begin = start - key,
                end = smaller(keys, i + 1 + few.keys(sequence) - a.queries - key);
  for (int64_t j = 0; j < smaller(begin, kKeys); ++j) scores[j] = -kInfinity;
  for (int64_t j = larger(end, 0); j < kKeys; ++j) scores[j] = -kInfinity;
  Vec largest = Vec::all(-kInfinity), total = Vec::zero();
  for (int64_t j = 0; j < kKeys; j += kLanes) largest = max(largest, Vec::load(scores + j));
  *maximum = largest.largest();
  const Vec base = Vec::all(*maximum == -kInfinity ? 0 : *maximum);
  for (int64_t j = 0; j < kKeys; j += kLanes) {
    const Vec p = exp2(Vec::load(scores + j) - base);
    p.store(scores + j);
    total = total + p;
  }
  *sum = total.sum();
}

// Floats of attend_piece's scratch memory.
int64_t piece_floats(const Few& few) { return few.rows * (few.padded + kKeys) + 16; }

// All heads of one sequence on one piece of its keys.
template <class T>
void attend_piece(const Few& few, int64_t sequence, int64_t index, const Piece& to) {
  const AttentionArgs& a = few.a;
  const int64_t key = index * kKeys, keys = smaller(kKeys, few.keys(sequence) - key),
                padded = few.padded, rows = few.group_rows;
  Scratch s(kScratchSlot, piece_floats(few));
  float *queries = s.take(few.rows * padded), *scores = s.take(few.rows * kKeys);
  pack_queries<T>(few, sequence, queries);
  const T* const k = few.rows_of<T>(a.k, a.paged.key_offset, sequence, index);
  const T* const v = few.rows_of<T>(a.v, a.paged.value_offset, sequence, index);
  for (int64_t j = 0; j < keys; j += kTileKeys) {
    const TileKeys<T> tile(k, a.kv_stride, j, keys);
    for (int64_t g = 0; g < a.kv_heads; ++g) {
      for_row_tiles(rows, [&]<int kRows>(int64_t r) {
        score_tile<kRows>(queries + (g * rows + r) * padded, padded, tile, g * a.head_size,
                          a.head_size, scores + (g * rows + r) * kKeys + j);
      });
    }
  }
  for (int64_t r = 0; r < few.rows; ++r)
    softmax_row(few, sequence, r % a.queries, key, keys, scores + r * kKeys, to.maximum + r,
                to.sum + r);
  for (int64_t i = 0; i < few.rows * padded; ++i) to.out[i] = 0;
  for (int64_t j = 0; j < keys; j += kTileKeys) {
    const TileKeys<T> tile(v, a.kv_stride, j, keys);
    for (int64_t g = 0; g < a.kv_heads; ++g) {
      for_row_tiles(rows, [&]<int kRows>(int64_t r) {
        value_tile<kRows>(scores + (g * rows + r) * kKeys + j, tile, g * a.head_size, a.head_size,
                          to.out + (g * rows + r) * padded, padded);
      });
    }
  }
}

// The output of one query of one head: the first piece takes up the others.
template <class T>
void add_pieces(const Few& few, float* all, int64_t sequence, int64_t row) {
  const AttentionArgs& a = few.a;
  const int64_t pieces = few.pieces_of(sequence);
  float maximum = -kInfinity;
  for (int64_t i = 0; i < pieces; ++i) {
    const float largest = few.piece(all, sequence, i).maximum[row];
    maximum = largest > maximum ? largest : maximum;
  }
  const float base = maximum == -kInfinity ? 0 : maximum;
  float* out = few.piece(all, sequence, 0).out + row * few.padded;
  float sum = 0;
  for (int64_t i = 0; i < pieces; ++i) {
    const Piece piece = few.piece(all, sequence, i);
    const Vec factor = exp2(Vec::all(piece.maximum[row] - base));
    float lanes[kLanes];
    factor.store(lanes);
    sum += piece.sum[row] * lanes[0];
    const float* from = piece.out + row * few.padded;
    for (int64_t d = 0; d < few.padded; d += kLanes) {
      const Vec before = i == 0 ? Vec::zero() : Vec::load(out + d);
      fma(Vec::load(from + d), factor, before).store(out + d);
    }
  }
  const int64_t head = row / a.queries, query = row % a.queries;
  T* to =
      static_cast<T*>(a.out) + (sequence * a.queries + query) * a.out_stride + head * a.head_size;
  unpack_rows(out, 1, a.head_size, to, 0, [&](int64_t) { return sum == 0 ? 0.0f : 1 / sum; });
  if (a.lse != nullptr)
    a.lse[(sequence * a.heads + head) * a.queries + query] = maximum * kLn2 + __builtin_logf(sum);
}

template <class T>
void attend(const Few& few) {
  const AttentionArgs& a = few.a;
  const int64_t size = a.batch * few.pieces * few.piece_size;
  float* all = Scratch(kSharedSlot, size).take(size);
  Scratch::reserve(kScratchSlot, piece_floats(few));
  for_chunks(a.batch * few.pieces, [&](int64_t chunk) {
    const int64_t sequence = chunk / few.pieces, index = chunk % few.pieces;
    if (index >= few.pieces_of(sequence)) return;
    attend_piece<T>(few, sequence, index, few.piece(all, sequence, index));
  });
  for_ranges(a.batch * few.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      add_pieces<T>(few, all, row / few.rows, row % few.rows);
  });
}

}  // namespace

void attend_few(const AttentionArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) { attend<T>(Few(a)); });
}

}  // namespace tenon::cpu::TENON_ISA::flash
