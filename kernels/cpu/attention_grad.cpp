// SPDX-License-Identifier: Apache-2.0
// Computes    with P = exp(scale q k^T - lse), Z dropout's factors, dP = Z dout v^T and
//             dS = P (dP - rowsum(dout out)): dv = (P Z)^T dout, dk = scale dS^T q,
//             dq = scale dS k.
// Layout      as attention.cpp; K and V of one head packed, and dK and dV as fp32, for the whole
//             sequence.
// Work split  the blocks of queries of one key/value head of one sequence, in parts whose number
//             depends on the shape alone; dk and dv are the sums of the parts, in their order. With
//             few heads for the threads each part is a task of its own, else a head is one.
// Numerics    fp32 sums in the order of the queries (dk, dv) and of the keys (dq), rounded once.
//             With pairs of bf16, P Z and dS are rounded to bf16 before they are multiplied.
// Traffic     packed K, V, dK and dV once for each block of queries, from the second-level cache up
//             to about 1000 keys of 64, else from the third.
#include "kernels/cpu/attention_grad_block.h"
#include "kernels/cpu/kernels.h"

namespace tenon::cpu::TENON_ISA {
namespace {

using namespace flash;

// The blocks of queries of the heads that share a key/value head are its units, in the order of the
// queries, then of the heads. They fall into parts of about equal work.
struct Parts {
  const AttentionArgs& a;
  int64_t group, units, count;

  // 16 parts of all heads together: enough for as many threads. Adding them up takes 6 % of the
  // time of one head of 1024 tokens on one thread of Zen 4, and nothing to be seen with 8 heads.
  explicit Parts(const AttentionArgs& args)
      : a(args),
        group(a.heads / a.kv_heads),
        units(query_blocks(a) * group),
        count(larger(1, smaller(units, divide_up(16, a.batch * a.kv_heads)))) {}

  int64_t block(int64_t unit) const { return unit / group; }
  // Where part `part` begins: after that share of the key blocks of all units.
  int64_t begin(int64_t part) const {
    int64_t all = 0, before = 0, unit = 0;
    for (int64_t u = 0; u < units; ++u) all += work(u);
    for (; unit < units && before * count < part * all; ++unit) before += work(unit);
    return unit;
  }
  // The keys, a multiple of 4, that the units before `unit` can see.
  int64_t rows_before(int64_t unit) const {
    return unit == 0 ? 0 : round_up(keys_seen(a, block(unit - 1)), 4);
  }

 private:
  int64_t work(int64_t unit) const { return 1 + keys_seen(a, block(unit)) / kKeys; }
};

// One key/value head of one sequence.
template <class T>
class HeadGrad {
 public:
  // Takes the task's scratch memory, and from it `grads` times dK and dV.
  HeadGrad(const AttentionGradArgs& g, const Parts& parts, int64_t task, int64_t grads)
      : g_(g),
        a_(g.forward),
        parts_(parts),
        sequence_(task / a_.kv_heads),
        kv_head_(task % a_.kv_heads),
        scratch_(kScratchSlot, floats(a_, grads)),
        keys_(a_, sequence_, kv_head_, take_keys()),
        buffers_(grad_buffers<Unit>(scratch_, padded_, &ahead_)) {}
  HeadGrad(const HeadGrad&) = delete;

  // Of its scratch memory.
  static int64_t floats(const AttentionArgs& a, int64_t grads) {
    return (2 + (kPairs ? 1 : 0) + 2 * grads) * packed_size(a) +
           grad_size(padded_head(a.head_size));
  }

  KeyGrads take_grads() { return {take(), take()}; }

  // Adds the share of the units of one part, which lies within parts.rows_before(their end).
  void run(int64_t part, KeyGrads to) {
    const int64_t end = parts_.begin(part + 1);
    for (int64_t unit = parts_.begin(part); unit < end; ++unit) {
      const QueryBlock block(a_, sequence_, head(unit), parts_.block(unit));
      keys_.pack_until(keys_seen(a_, parts_.block(unit)));
      ahead_.clear();
      if (unit + 1 < end) ask(unit + 1);
      gradients_of_queries<T>(g_, block, sequence_, head(unit), keys_.packed, buffers_, to);
    }
  }

 private:
  using Unit = typename Operand<T>::Unit;
  static constexpr bool kPairs = Unit::kSteps > 1;

  float* take() { return scratch_.take(packed_size(a_)); }
  PackedKeys take_keys() {
    float* keys = take();
    return {keys, take(), kPairs ? take() : keys};
  }
  int64_t head(int64_t unit) const { return kv_head_ * parts_.group + unit % parts_.group; }

  // Asks for what `unit` will read.
  void ask(int64_t unit) {
    const int64_t block = parts_.block(unit), query = block * kQueries,
                  rows = smaller(kQueries, a_.queries - query),
                  token = sequence_ * a_.queries + query,
                  in = token * a_.q_stride + head(unit) * a_.head_size,
                  out = token * a_.out_stride + head(unit) * a_.head_size;
    ahead_.add(static_cast<const T*>(a_.q) + in, rows, a_.head_size, a_.q_stride);
    ahead_.add(static_cast<const T*>(g_.dout) + out, rows, a_.head_size, a_.out_stride);
    ahead_.add(static_cast<const T*>(a_.out) + out, rows, a_.head_size, a_.out_stride);
    keys_.ask_until(keys_seen(a_, block), &ahead_);
  }

  const AttentionGradArgs& g_;
  const AttentionArgs& a_;
  const Parts& parts_;
  const int64_t sequence_, kv_head_, padded_ = padded_head(a_.head_size);
  Scratch scratch_;
  HeadKeys<T, false> keys_;
  RowsAhead ahead_;
  GradBuffers buffers_;
};

// The first `count` floats of both.
void clear(KeyGrads grads, int64_t count) {
  for (int64_t i = 0; i < count; ++i) grads.keys[i] = grads.values[i] = 0;
}
void add(KeyGrads from, int64_t count, KeyGrads to) {
  for (int64_t i = 0; i < count; i += kLanes) {
    (Vec::load(to.keys + i) + Vec::load(from.keys + i)).store(to.keys + i);
    (Vec::load(to.values + i) + Vec::load(from.values + i)).store(to.values + i);
  }
}

// Writes dk and dv of `rows` keys from `key` on, with which `from` begins. task: sequence and head.
template <class T>
void store_keys(const AttentionGradArgs& g, int64_t task, KeyGrads from, int64_t key,
                int64_t rows) {
  const AttentionArgs& a = g.forward;
  const int64_t at =
      (task / a.kv_heads * a.keys + key) * g.dkv_stride + task % a.kv_heads * a.head_size;
  unpack_rows(from.keys, rows, a.head_size, static_cast<T*>(g.dk) + at, g.dkv_stride,
              [&](int64_t) { return a.scale; });
  unpack_rows(from.values, rows, a.head_size, static_cast<T*>(g.dv) + at, g.dkv_stride,
              [](int64_t) { return 1.0f; });
}

// A task is a head: all parts one after the other.
template <class T>
void gradients_by_heads(const AttentionGradArgs& g, const Parts& parts) {
  const AttentionArgs& a = g.forward;
  const int64_t padded = padded_head(a.head_size), grads = parts.count == 1 ? 1 : 2;
  Scratch::reserve(kScratchSlot, HeadGrad<T>::floats(a, grads));
  for_chunks(a.batch * a.kv_heads, [&](int64_t task) {
    HeadGrad<T> head(g, parts, task, grads);
    const KeyGrads sum = head.take_grads();
    clear(sum, round_up(a.keys, 4) * padded);
    if (parts.count == 1) {
      head.run(0, sum);
    } else {
      const KeyGrads share = head.take_grads();
      for (int64_t part = 0; part < parts.count; ++part) {
        const int64_t size = parts.rows_before(parts.begin(part + 1)) * padded;
        clear(share, size);
        head.run(part, share);
        add(share, size, sum);
      }
    }
    store_keys<T>(g, task, sum, 0, a.keys);
  });
}

// A task is a part, later a block of keys. The sums are those of gradients_by_heads.
template <class T>
void gradients_by_parts(const AttentionGradArgs& g, const Parts& parts) {
  const AttentionArgs& a = g.forward;
  const int64_t padded = padded_head(a.head_size), size = packed_size(a),
                heads = a.batch * a.kv_heads, key_blocks = divide_up(a.keys, kKeys);
  float* shared = Scratch(kSharedSlot, 2 * heads * parts.count * size).take(0);
  Scratch::reserve(kScratchSlot, larger(HeadGrad<T>::floats(a, 0), 2 * kKeys * padded));
  const auto share = [&](int64_t task, int64_t part, int64_t key) {
    float* keys = shared + (task * parts.count + part) * 2 * size + key * padded;
    return KeyGrads{keys, keys + size};
  };
  const auto rows_seen = [&](int64_t part) { return parts.rows_before(parts.begin(part + 1)); };
  for_chunks(heads * parts.count, [&](int64_t chunk) {
    const int64_t task = chunk / parts.count, part = chunk % parts.count;
    clear(share(task, part, 0), rows_seen(part) * padded);
    HeadGrad<T>(g, parts, task, 0).run(part, share(task, part, 0));
  });
  for_chunks(heads * key_blocks, [&](int64_t chunk) {
    const int64_t task = chunk / key_blocks, key = chunk % key_blocks * kKeys,
                  rows = smaller(kKeys, a.keys - key), all = round_up(rows, 4);
    Scratch s(kScratchSlot, 2 * kKeys * padded);
    const KeyGrads sum = {s.take(kKeys * padded), s.take(kKeys * padded)};
    clear(sum, all * padded);
    for (int64_t part = 0; part < parts.count; ++part)
      add(share(task, part, key), larger(0, smaller(rows_seen(part) - key, all)) * padded, sum);
    store_keys<T>(g, task, sum, key, rows);
  });
}

}  // namespace

void attention_grad(const AttentionGradArgs& g) {
  const int64_t heads = g.forward.batch * g.forward.kv_heads;
  if (heads == 0) return;
  const Parts parts(g.forward);
  dispatch_float(g.forward.dtype, [&]<class T>(T) {
    if (parts.count > 1 && few_tasks(heads)) return gradients_by_parts<T>(g, parts);
    gradients_by_heads<T>(g, parts);
  });
}

}  // namespace tenon::cpu::TENON_ISA
