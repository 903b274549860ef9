// SPDX-License-Identifier: Apache-2.0
// Attention and its gradient. The bounds are derived next to the references
// (tests/support/reference.cpp) and, for pairs of bf16, next to `rounding`.
#include "tests/kernels/attention_operands.h"

namespace tenon::test {
namespace {

struct Shape {
  const char* name;
  AttentionShape of;
};

constexpr Shape kShapes[] = {
    {"one token", {1, 1, 1, 1, 1, 1}},
    {"less than a block", {2, 17, 17, 3, 3, 15}},
    {"one block", {1, 64, 64, 2, 2, 64}},
    {"one block and a bit, grouped heads", {1, 65, 65, 2, 1, 17}},
    {"blocks, documents", {2, 131, 131, 4, 2, 16, 50}},
    {"dropout", {2, 70, 70, 2, 2, 8, 0, 0.25}},
    {"documents and dropout", {1, 200, 200, 1, 1, 33, 50, 0.1}},
    {"one query, cache", {2, 1, 77, 2, 2, 64, 0, 0, 19}},
    {"some queries, cache, grouped heads", {1, 5, 130, 4, 1, 31, 0, 0, 3}},
    {"many queries, cache", {2, 90, 203, 1, 1, 16, 50}},
    {"more queries than keys: the first see nothing", {1, 100, 30, 2, 2, 16}},
    {"heads of 80, grouped", {1, 67, 67, 4, 2, 80}},
    {"heads of 128, cache", {1, 66, 133, 3, 1, 128}},
    {"heads of 24, documents", {1, 131, 131, 1, 1, 24, 50}},
    {"heads of 120", {1, 20, 20, 2, 2, 120}},
    {"one query, long cache, grouped heads of 80", {1, 1, 1021, 6, 2, 80, 0, 0, 5}},
    {"one query, heads of 40", {3, 1, 64, 3, 3, 40, 0, 0, 1}},
    {"three queries, documents, cache, one key head", {2, 3, 190, 5, 1, 24, 50, 0, 7}},
    {"eight queries, grouped heads of 128", {1, 8, 129, 4, 2, 128}},
    {"nine queries, cache", {1, 9, 129, 2, 1, 64}},
    {"few queries, dropout", {1, 4, 70, 2, 2, 16, 0, 0.5}},
    {"eight queries, three keys: the first see nothing", {2, 8, 3, 2, 1, 8}},
    {"many blocks of one key head", {1, 330, 330, 2, 1, 8}},
};

constexpr AttentionGaps kGaps = {5, 3, 2};

// `error` of fp32 arithmetic, `rounded` where pairs of bf16 are multiplied, and the result's
// rounding.
Bound bound(const KernelTable& table, const AttentionOperands& o, reference::Values error,
            const reference::Values& rounded) {
  if (o.dtype == DType::kBF16 && std::string(table.name) == "avx512_bf16") {
    for (size_t i = 0; i < error.size(); ++i)
      error[i] = error[i] * (1 + unit_roundoff(o.dtype)) + rounded[i];
  }
  return Bound{error}.then_round(o.dtype);
}

}  // namespace

TEST_CASE("attention matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const AttentionOperands o = attention_operands(shape.of, kGaps, dtype);
      const reference::AttentionProblem& p = o.problem;
      const int64_t width = p.heads * p.head_size, tokens = p.batch * p.queries;
      const Dense d = dense(o);
      const reference::Attention want = reference::attention(p, d.q, d.k, d.v);
      const Rounding rounded = rounding(o, d, want.lse, want.out);
      for (const KernelTable* table : usable_tables()) {
        CAPTURE(shape.name, name_of(dtype), table->name);
        const auto got = run_on_threads([&] {
          GuardedArray out(dtype, tokens * o.out_stride()), lse(DType::kF32, tokens * p.heads),
              again = out;
          AttentionArgs args = arguments(o);
          args.out = out.data();
          args.lse = floats(lse);
          table->attention(args);
          args.out = again.data();
          args.lse = nullptr;
          table->attention(args);
          return std::vector<GuardedArray>{out, lse, again};
        });
        CHECK_WITHIN(dense(got[0], 1, tokens, width, o.out_stride(), 0), want.out,
                     bound(*table, o, want.out_error, rounded.out));
        CHECK_WITHIN(got[1].values(), want.lse, Bound{want.lse_error});
        CHECK(gaps_untouched(got[0], width, o.out_stride()));
        CHECK(got[2].bytes() == got[0].bytes());
      }
    }
  }
}

TEST_CASE("attention_grad matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const AttentionOperands o = attention_operands(shape.of, kGaps, dtype);
      const reference::AttentionProblem& p = o.problem;
      const int64_t width = p.heads * p.head_size, kv_width = p.kv_heads * p.head_size,
                    tokens = p.batch * p.queries;
      const Dense d = dense(o);
      // The kernels get the reference's out and lse, rounded to their types.
      const reference::Attention forward = reference::attention(p, d.q, d.k, d.v);
      GuardedArray out(dtype, tokens * o.out_stride()), lse(DType::kF32, tokens * p.heads);
      spread(forward.out, out, width, o.out_stride());
      spread(forward.lse, lse, 1, 1);
      const reference::Values kept_out = dense(out, 1, tokens, width, o.out_stride(), 0);
      const reference::AttentionGrad want =
          reference::attention_grad(p, d.q, d.k, d.v, kept_out, lse.values(), d.dout);
      const Rounding rounded = rounding(o, d, lse.values(), kept_out);
      const int64_t dq_stride = width + 1, dkv_stride = kv_width + 4;
      for (const KernelTable* table : usable_tables()) {
        CAPTURE(shape.name, name_of(dtype), table->name);
        const auto got = run_on_threads([&] {
          GuardedArray dq(dtype, tokens * dq_stride), dk(dtype, p.batch * p.keys * dkv_stride),
              dv = dk;
          AttentionGradArgs args = {arguments(o), o.dout.data(), dq.data(), dk.data(),
                                    dv.data(),    dq_stride,     dkv_stride};
          args.forward.out = out.data();
          args.forward.lse = floats(lse);
          table->attention_grad(args);
          return std::vector<GuardedArray>{dq, dk, dv};
        });
        const int64_t keys = p.batch * p.keys;
        CHECK_WITHIN(dense(got[0], 1, tokens, width, dq_stride, 0), want.dq,
                     bound(*table, o, want.dq_error, rounded.dq));
        CHECK_WITHIN(dense(got[1], 1, keys, kv_width, dkv_stride, 0), want.dk,
                     bound(*table, o, want.dk_error, rounded.dk));
        CHECK_WITHIN(dense(got[2], 1, keys, kv_width, dkv_stride, 0), want.dv,
                     bound(*table, o, want.dv_error, rounded.dv));
        CHECK(gaps_untouched(got[0], width, dq_stride));
        CHECK((gaps_untouched(got[1], kv_width, dkv_stride) &&
               gaps_untouched(got[2], kv_width, dkv_stride)));
      }
    }
  }
}

// Work is split over heads, parts of the queries or blocks of them, as suits the threads.
TEST_CASE("attention and attention_grad do not depend on who computes what", "[kernels]") {
  for (int64_t heads : {1, 2, 3, 5, 7, 11}) {
    for (int64_t group : {1, 2}) {
      const AttentionOperands o =
          attention_operands({1, 200, 230, heads * group, heads, 8}, kGaps, DType::kF32);
      const int64_t tokens = o.tokens(), keys = o.problem.keys;
      for (const KernelTable* table : usable_tables()) {
        std::vector<std::vector<GuardedArray>> results;
        for (int threads : {1, 2, 3, 5, 8}) {
          GuardedArray out(DType::kF32, tokens * o.out_stride()),
              lse(DType::kF32, tokens * o.problem.heads), dq(DType::kF32, tokens * o.width()),
              dk(DType::kF32, keys * o.kv_width()), dv = dk;
          AttentionGradArgs args = {arguments(o), o.dout.data(), dq.data(),   dk.data(),
                                    dv.data(),    o.width(),     o.kv_width()};
          args.forward.out = out.data();
          args.forward.lse = floats(lse);
          const int before = thread_count();
          set_thread_count(threads);
          table->attention(args.forward);
          table->attention_grad(args);
          set_thread_count(before);
          results.push_back({out, lse, dq, dk, dv});
          for (size_t i = 0; i < 5; ++i) {
            CAPTURE(heads, group, table->name, threads, i);
            CHECK(results.back()[i].guards_intact());
            const bool same_bytes = results.back()[i].bytes() == results[0][i].bytes();
            CHECK(same_bytes);
          }
        }
      }
    }
  }
}

TEST_CASE("attention of nothing is nothing", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (int64_t queries : {3, 70}) {
      CAPTURE(table->name, queries);
      // No keys: zeros, and the logarithm of an empty sum.
      const AttentionOperands o = attention_operands({1, queries, 0, 2, 1, 16}, kGaps, DType::kF32);
      GuardedArray out(DType::kF32, queries * o.out_stride()), lse(DType::kF32, queries * 2);
      AttentionArgs args = arguments(o);
      args.out = out.data();
      args.lse = floats(lse);
      table->attention(args);
      for (int64_t i = 0; i < queries; ++i) CHECK(out.get(i * o.out_stride()) == 0);
      for (int64_t i = 0; i < queries * 2; ++i) CHECK(lse.get(i) == -INFINITY);
    }
    // No queries: keys and values have gradients of 0.
    const AttentionOperands o = attention_operands({1, 0, 70, 2, 1, 16}, kGaps, DType::kF32);
    GuardedArray dk(DType::kF32, 70 * 16), dv = dk;
    AttentionGradArgs args = {arguments(o), nullptr, nullptr, dk.data(), dv.data(), 32, 16};
    table->attention_grad(args);
    for (int64_t i = 0; i < 70 * 16; ++i) CHECK((dk.get(i) == 0 && dv.get(i) == 0));
    args.forward.batch = args.forward.kv_heads = args.forward.heads = 0;
    table->attention(args.forward);
    table->attention_grad(args);
  }
}

TEST_CASE("attention survives scores of 1e4 and spreads NaN to the rows that see it", "[kernels]") {
  const AttentionShape shape = {1, 100, 100, 1, 1, 16};
  AttentionOperands o = attention_operands(shape, kGaps, DType::kF32);
  o.problem.scale = 2000;
  const Dense d = dense(o);
  const reference::Attention want = reference::attention(o.problem, d.q, d.k, d.v);
  AttentionOperands broken = o;
  constexpr int64_t broken_key = 70;
  broken.k.set(broken_key * broken.kv_stride() + 3, NAN);
  for (const KernelTable* table : usable_tables()) {
    CAPTURE(table->name);
    GuardedArray out(DType::kF32, 100 * o.out_stride()), lse(DType::kF32, 100);
    AttentionArgs args = arguments(o);
    args.out = out.data();
    args.lse = floats(lse);
    table->attention(args);
    CHECK_WITHIN(dense(out, 1, 100, 16, o.out_stride(), 0), want.out, Bound{want.out_error});
    CHECK_WITHIN(lse.values(), want.lse, Bound{want.lse_error});
    args.k = broken.k.data();
    table->attention(args);
    for (int64_t i = 0; i < 100; ++i) {
      CHECK(std::isnan(lse.get(i)) == (i >= broken_key));
      CHECK(std::isnan(out.get(i * o.out_stride())) == (i >= broken_key));
    }
    // The last five queries by themselves, with a document that begins after the broken key.
    const std::vector<int32_t> starts = {0, 0, broken_key + 1, broken_key + 1, 0};
    const PlacedArray<int32_t> doc_start(starts);
    args.queries = 5;
    args.doc_start = doc_start.data();
    table->attention(args);
    for (int64_t i = 0; i < 5; ++i) {
      const bool sees_it = i != 2 && i != 3;
      CHECK(std::isnan(lse.get(i)) == sees_it);
      CHECK(std::isnan(out.get(i * o.out_stride())) == sees_it);
    }
  }
}

}  // namespace tenon::test
