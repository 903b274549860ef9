// SPDX-License-Identifier: Apache-2.0
// Attention and its gradient. The bounds are derived next to the references
// (tests/support/reference.cpp).
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
};

constexpr AttentionGaps kGaps = {5, 3, 2};

}  // namespace

TEST_CASE("attention matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const AttentionOperands o = attention_operands(shape.of, kGaps, dtype);
      const reference::AttentionProblem& p = o.problem;
      const int64_t width = p.heads * p.head_size, tokens = p.batch * p.queries;
      const Dense d = dense(o);
      const reference::Attention want = reference::attention(p, d.q, d.k, d.v);
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
                     Bound{want.out_error}.then_round(dtype));
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
      const reference::AttentionGrad want = reference::attention_grad(
          p, d.q, d.k, d.v, dense(out, 1, tokens, width, o.out_stride(), 0), lse.values(), d.dout);
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
                     Bound{want.dq_error}.then_round(dtype));
        CHECK_WITHIN(dense(got[1], 1, keys, kv_width, dkv_stride, 0), want.dk,
                     Bound{want.dk_error}.then_round(dtype));
        CHECK_WITHIN(dense(got[2], 1, keys, kv_width, dkv_stride, 0), want.dv,
                     Bound{want.dv_error}.then_round(dtype));
        CHECK(gaps_untouched(got[0], width, dq_stride));
        CHECK((gaps_untouched(got[1], kv_width, dkv_stride) &&
               gaps_untouched(got[2], kv_width, dkv_stride)));
      }
    }
  }
}

TEST_CASE("attention survives scores of 1e4 and spreads NaN to the rows that see it", "[kernels]") {
  const AttentionShape shape = {1, 100, 100, 1, 1, 16};
  AttentionOperands o = attention_operands(shape, kGaps, DType::kF32);
  o.problem.scale = 2000;
  const Dense d = dense(o);
  const reference::Attention want = reference::attention(o.problem, d.q, d.k, d.v);
  AttentionOperands broken = o;
  const int64_t broken_key = 70;
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
  }
}

}  // namespace tenon::test
