// SPDX-License-Identifier: Apache-2.0
// What attention and its gradient share: one block of queries against one block of keys.
//
// Scores lie transposed, S[key][query], with the queries in the lanes: the maximum and the sum of a
// softmax are then taken lane by lane, K and V are read as they lie (each element broadcast), and
// only the queries are transposed, once for all key blocks. Packed arrays are fp32 with heads
// padded by zeros to a multiple of the lanes (and of 4).
#pragma once

#include "core/kernel_table.h"
#include "kernels/cpu/attention_product.h"

namespace tenon::cpu::TENON_ISA::flash {

constexpr int64_t kQueries = 64;  // queries of a block, hence the row length of S
constexpr int64_t kKeys = 64;     // keys of a block
constexpr int64_t kGrain = 16;    // masked scores are skipped in groups of this many queries
constexpr int kScratchSlot = 6;   // of a task
constexpr int kSharedSlot = 7;    // of all tasks, in the thread that calls the kernel

const float kInfinity = __builtin_inff();

inline int64_t padded_head(int64_t head_size) { return round_up(head_size, larger(kLanes, 4)); }

// Hands out pieces of one block of the thread's scratch memory, each aligned to a cache line.
class Scratch {
 public:
  Scratch(int slot, int64_t floats)
      : next_(static_cast<float*>(thread_scratch(slot, floats * 4))) {}
  // What its constructor takes, of every thread that runs chunks.
  static void reserve(int slot, int64_t floats) { reserve_scratch(slot, floats * 4); }
  float* take(int64_t floats) {
    float* taken = next_;
    next_ += round_up(floats, 16);
    return taken;
  }

 private:
  float* next_;
};

// Whether so many tasks of equal size would leave threads idle. What a kernel computes does not
// depend on it, only who computes what.
inline bool few_tasks(int64_t tasks) {
  const int64_t threads = thread_count();
  return tasks < 3 * threads && tasks % threads != 0;
}

// e^x = 2^(x kLog2E): scores are kept in units of ln(2), which spares exp two of its steps.
const float kLog2E = 0x1.715476p0f, kLn2 = 0x1.62e43p-1f;

// 2^x within 1.1 ulp for x up to 128. NaN gives NaN.
inline Vec exp2(Vec x) {
  x = max(Vec::all(-151.0f), x);  // below this the result is 0
  const Vec n = round(x), r = x - n;
  Vec p = Vec::all(0.0001546973198f);
  p = fma(p, r, Vec::all(0.001341000097f));
  p = fma(p, r, Vec::all(0.009618030783f));
  p = fma(p, r, Vec::all(0.05550297314f));
  p = fma(p, r, Vec::all(0.2402265108f));
  p = fma(p, r, Vec::all(0.6931472254f));
  p = fma(p, r, Vec::all(1.0f));
  return times_power_of_2(p, n);
}

// Rows of a head lie far apart (a page or more), where the hardware does not prefetch: this many
// rows ahead is asked for.
constexpr int64_t kRowsAhead = 8;

// to (padded_rows, padded) = the first `rows` rows of `from`, widened, times `factor`; the rest is
// zero.
template <class T>
void pack_rows(const T* from, int64_t stride, int64_t rows, int64_t head_size, float* to,
               int64_t padded_rows, float factor = 1) {
  const int64_t padded = padded_head(head_size);
  const Vec times = Vec::all(factor);
  for (int64_t r = 0; r < padded_rows; ++r) {
    for (int64_t d = 0; d < padded; d += kLanes) {
      const int64_t left = r < rows ? head_size - d : 0;
      __builtin_prefetch(from + (r + kRowsAhead) * stride + d);
      (left > 0 ? Vec::load(from + r * stride + d, left) * times : Vec::zero())
          .store(to + r * padded + d);
    }
  }
}

// The number of units of a row that `along` packs.
template <class Unit>
int64_t padded_units(int64_t head_size) {
  return round_up(head_size, larger(kLanes, 4) * Unit::kSteps) / Unit::kSteps;
}

// to (padded_rows, padded_units) = `rows` rows of `from` as units of neighbours in a row; the rest
// is zero.
template <class Unit, class T>
void pack_along(const T* from, int64_t stride, int64_t rows, int64_t head_size, float* to,
                int64_t padded_rows) {
  const int64_t units = padded_units<Unit>(head_size);
  for (int64_t r = 0; r < padded_rows; ++r) {
    for (int64_t u = 0; u < units; u += kLanes) {
      const int64_t d = u * Unit::kSteps, left = r < rows ? head_size - d : 0;
      __builtin_prefetch(from + (r + kRowsAhead) * stride + d);
      (left > 0 ? Unit::along(from + r * stride + d, left, 1) : Vec::zero())
          .store(to + r * units + u);
    }
  }
}

// to (padded_rows / steps of a unit, padded) = the same as units of rows that follow each other.
template <class Unit, class T>
void pack_across(const T* from, int64_t stride, int64_t rows, int64_t head_size, float* to,
                 int64_t padded_rows) {
  const int64_t padded = padded_head(head_size);
  for (int64_t r = 0; r < padded_rows; r += Unit::kSteps) {
    for (int64_t d = 0; d < padded; d += kLanes) {
      const int64_t left = r < rows ? head_size - d : 0;
      for (int64_t i = 0; i < Unit::kSteps; ++i)
        __builtin_prefetch(from + (r + i + kRowsAhead) * stride + d);
      (left > 0 ? Unit::across(from + r * stride + d, stride, rows - r, left, nullptr)
                : Vec::zero())
          .store(to + r / Unit::kSteps * padded + d);
    }
  }
}

// The opposite, times factor(row), rounding.
template <class T, class Factor>
void unpack_rows(const float* from, int64_t rows, int64_t head_size, T* to, int64_t stride,
                 const Factor& factor) {
  const int64_t padded = padded_head(head_size);
  for (int64_t r = 0; r < rows; ++r) {
    const Vec times = Vec::all(factor(r));
    for (int64_t d = 0; d < head_size; d += kLanes) {
      __builtin_prefetch(to + (r + kRowsAhead) * stride + d, 1);
      (Vec::load(from + r * padded + d) * times).store(to + r * stride + d, head_size - d);
    }
  }
}

// Rows that will be needed soon, asked for a few at a time between computations. Waiting for them
// all at once was 8 % of a forward pass (12 heads of 64, 1024 tokens, Zen 4).
class RowsAhead {
 public:
  // `rows` rows of `count` elements, `stride` apart.
  template <class T>
  void add(const T* first, int64_t rows, int64_t count, int64_t stride) {
    if (rows > 0)
      lists_[lists_used_++] = {reinterpret_cast<const char*>(first), rows,
                               count * int64_t{sizeof(T)}, stride * int64_t{sizeof(T)}};
  }
  void clear() { lists_used_ = list_ = 0; }
  // Asks for the next two rows.
  void step() {
    for (int i = 0; i < 2 && list_ < lists_used_; ++i) {
      Rows& from = lists_[list_];
      for (int64_t byte = 0; byte < from.bytes; byte += 64)
        __builtin_prefetch(from.next + byte, 0, 2);
      from.next += from.stride;
      if (--from.left == 0) ++list_;
    }
  }

 private:
  struct Rows {
    const char* next;
    int64_t left, bytes, stride;
  };
  Rows lists_[6];
  int lists_used_ = 0, list_ = 0;
};

inline int64_t query_blocks(const AttentionArgs& a) { return divide_up(a.queries, kQueries); }
// The keys that the first `block` + 1 blocks of queries can see.
inline int64_t keys_seen(const AttentionArgs& a, int64_t block) {
  return larger(0, smaller(a.keys, (block + 1) * kQueries + a.keys - a.queries));
}

// K and V of one head, packed. For fp32 units, along and across are the same.
struct PackedKeys {
  float *keys, *values;  // (keys, padded_units), and along or across as the kernel wants
  float* keys_across;    // (keys / steps, padded), or null
};
// Of each, in floats, at most.
inline int64_t packed_size(const AttentionArgs& a) {
  return round_up(a.keys, 4) * padded_head(a.head_size) + 16;
}

// K and V of one head of one sequence, where they lie and packed.
template <class T, bool kValuesAcross>
class HeadKeys {
 public:
  using Unit = typename Operand<T>::Unit;
  HeadKeys(const AttentionArgs& args, int64_t sequence, int64_t kv_head, PackedKeys to)
      : packed(to), a_(args), at_(sequence * a_.kv_batch_stride + kv_head * a_.head_size) {}

  const PackedKeys packed;

  // Packs the keys from `begin` (a multiple of 4) to `end`.
  void pack(int64_t begin, int64_t end) const {
    const int64_t from = at_ + begin * a_.kv_stride, count = end - begin, rows = round_up(count, 4),
                  along = begin * padded_units<Unit>(a_.head_size),
                  across = begin / Unit::kSteps * padded_head(a_.head_size);
    const T *k = static_cast<const T*>(a_.k) + from, *v = static_cast<const T*>(a_.v) + from;
    pack_along<Unit>(k, a_.kv_stride, count, a_.head_size, packed.keys + along, rows);
    if (packed.keys_across != nullptr && packed.keys_across != packed.keys)
      pack_across<Unit>(k, a_.kv_stride, count, a_.head_size, packed.keys_across + across, rows);
    if (kValuesAcross) {
      pack_across<Unit>(v, a_.kv_stride, count, a_.head_size, packed.values + across, rows);
    } else {
      pack_along<Unit>(v, a_.kv_stride, count, a_.head_size, packed.values + along, rows);
    }
  }
  // Packs the keys below `end` that are not packed yet, in whole blocks.
  void pack_until(int64_t end) {
    if (end <= ready_) return;
    end = smaller(a_.keys, round_up(end, kKeys));
    pack(ready_, end);
    ready_ = end;
  }
  // Asks for what pack_until(end) will read.
  void ask_until(int64_t end, RowsAhead* ahead) const {
    const int64_t from = at_ + ready_ * a_.kv_stride,
                  count = smaller(a_.keys, round_up(end, kKeys)) - ready_;
    ahead->add(static_cast<const T*>(a_.k) + from, count, a_.head_size, a_.kv_stride);
    ahead->add(static_cast<const T*>(a_.v) + from, count, a_.head_size, a_.kv_stride);
  }

 private:
  const AttentionArgs& a_;
  int64_t at_, ready_ = 0;
};

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
  // in padding. The first begins at 0 and has all queries that see any of these keys.
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
