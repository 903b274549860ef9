// SPDX-License-Identifier: Apache-2.0
// Attention and its gradient. The bounds are derived next to the references
// (tests/support/reference.cpp).
#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

struct Shape {
  const char* name;
  int64_t batch, queries, keys, heads, kv_heads, head_size;
  bool documents = false;
  double dropout = 0;
  int64_t longer_cache = 0;  // keys that the cache holds beyond those in use
};

constexpr Shape kShapes[] = {
    {"one token", 1, 1, 1, 1, 1, 1},
    {"less than a block", 2, 17, 17, 3, 3, 15},
    {"one block", 1, 64, 64, 2, 2, 64},
    {"one block and a bit, grouped heads", 1, 65, 65, 2, 1, 17},
    {"blocks, documents", 2, 131, 131, 4, 2, 16, true},
    {"dropout", 2, 70, 70, 2, 2, 8, false, 0.25},
    {"documents and dropout", 1, 200, 200, 1, 1, 33, true, 0.1},
    {"one query, cache", 2, 1, 77, 2, 2, 64, false, 0, 19},
    {"some queries, cache, grouped heads", 1, 5, 130, 4, 1, 31, false, 0, 3},
    {"many queries, cache", 2, 90, 203, 1, 1, 16, true},
    {"more queries than keys: the first see nothing", 1, 100, 30, 2, 2, 16},
};

// The operands as the kernels get them: with gaps between the tokens, as parts of one array have.
struct Operands {
  reference::AttentionProblem problem;
  GuardedArray q, k, v, dout;
  int64_t q_stride, kv_stride, kv_batch_stride, out_stride;
};

std::vector<int32_t> documents(const Shape& shape) {
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < shape.batch * shape.queries; ++i) {
    const int64_t key = i % shape.queries + shape.keys - shape.queries;
    // Documents of 50; from key 150 on the start lies later, so that 150 to 169 see nothing.
    starts.push_back(static_cast<int32_t>(key / 50 * 50 + (key >= 120 ? 20 : 0)));
  }
  return starts;
}

Operands operands(const Shape& shape, DType dtype) {
  const int64_t width = shape.heads * shape.head_size, kv_width = shape.kv_heads * shape.head_size;
  const int64_t cache = shape.keys + shape.longer_cache;
  reference::AttentionProblem p = {
      .batch = shape.batch,
      .queries = shape.queries,
      .keys = shape.keys,
      .heads = shape.heads,
      .kv_heads = shape.kv_heads,
      .head_size = shape.head_size,
      .scale = static_cast<double>(static_cast<float>(1 / std::sqrt(shape.head_size))),
      .dropout = static_cast<double>(static_cast<float>(shape.dropout)),
      .random = {.seed = 99, .purpose = 4, .step = 12},
      .sequence0 = 3};
  if (shape.documents) p.doc_start = documents(shape);
  Operands o{
      p,
      GuardedArray(dtype, random_values(shape.batch * shape.queries * (width + 5), 1, -2, 2)),
      GuardedArray(dtype, random_values(shape.batch * cache * (kv_width + 3), 2, -2, 2)),
      GuardedArray(dtype, random_values(shape.batch * cache * (kv_width + 3), 3)),
      GuardedArray(dtype, random_values(shape.batch * shape.queries * (width + 2), 4)),
      width + 5,
      kv_width + 3,
      cache * (kv_width + 3),
      width + 2};
  return o;
}

// Rows of `width` elements, `stride` apart, without the gaps.
reference::Values dense(const GuardedArray& a, int64_t batch, int64_t tokens, int64_t width,
                        int64_t stride, int64_t batch_stride) {
  reference::Values values;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t c = 0; c < width; ++c)
        values.push_back(a.get(b * batch_stride + t * stride + c));
    }
  }
  return values;
}

// The opposite; what lies between rows stays as it was.
void spread(const reference::Values& values, GuardedArray& a, int64_t width, int64_t stride) {
  for (size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    a.set(at / width * stride + at % width, values[i]);
  }
}

bool gaps_untouched(const GuardedArray& a, int64_t width, int64_t stride) {
  for (int64_t i = 0; i < a.count(); ++i) {
    if (i % stride >= width && !a.untouched(i)) return false;
  }
  return true;
}

AttentionArgs arguments(const Operands& o, DType dtype) {
  const reference::AttentionProblem& p = o.problem;
  return {.q = o.q.data(),
          .k = o.k.data(),
          .v = o.v.data(),
          .doc_start = p.doc_start.empty() ? nullptr : p.doc_start.data(),
          .batch = p.batch,
          .queries = p.queries,
          .keys = p.keys,
          .heads = p.heads,
          .kv_heads = p.kv_heads,
          .head_size = p.head_size,
          .q_stride = o.q_stride,
          .kv_stride = o.kv_stride,
          .out_stride = o.out_stride,
          .kv_batch_stride = o.kv_batch_stride,
          .scale = static_cast<float>(p.scale),
          .dropout = static_cast<float>(p.dropout),
          .random = p.random,
          .sequence0 = p.sequence0,
          .dtype = dtype};
}

struct Dense {
  reference::Values q, k, v, dout;
};
Dense dense(const Operands& o) {
  const reference::AttentionProblem& p = o.problem;
  const int64_t width = p.heads * p.head_size, kv_width = p.kv_heads * p.head_size;
  return {dense(o.q, p.batch, p.queries, width, o.q_stride, p.queries * o.q_stride),
          dense(o.k, p.batch, p.keys, kv_width, o.kv_stride, o.kv_batch_stride),
          dense(o.v, p.batch, p.keys, kv_width, o.kv_stride, o.kv_batch_stride),
          dense(o.dout, p.batch, p.queries, width, o.out_stride, p.queries * o.out_stride)};
}

}  // namespace

TEST_CASE("attention matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const Operands o = operands(shape, dtype);
      const reference::AttentionProblem& p = o.problem;
      const int64_t width = p.heads * p.head_size, tokens = p.batch * p.queries;
      const Dense d = dense(o);
      const reference::Attention want = reference::attention(p, d.q, d.k, d.v);
      for (const KernelTable* table : usable_tables()) {
        CAPTURE(shape.name, name_of(dtype), table->name);
        const auto got = run_on_threads([&] {
          GuardedArray out(dtype, tokens * o.out_stride), lse(DType::kF32, tokens * p.heads),
              again = out;
          AttentionArgs args = arguments(o, dtype);
          args.out = out.data();
          args.lse = floats(lse);
          table->attention(args);
          args.out = again.data();
          args.lse = nullptr;
          table->attention(args);
          return std::vector<GuardedArray>{out, lse, again};
        });
        CHECK_WITHIN(dense(got[0], 1, tokens, width, o.out_stride, 0), want.out,
                     Bound{want.out_error}.then_round(dtype));
        CHECK_WITHIN(got[1].values(), want.lse, Bound{want.lse_error});
        CHECK(gaps_untouched(got[0], width, o.out_stride));
        CHECK(got[2].bytes() == got[0].bytes());
      }
    }
  }
}

TEST_CASE("attention_grad matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const Operands o = operands(shape, dtype);
      const reference::AttentionProblem& p = o.problem;
      const int64_t width = p.heads * p.head_size, kv_width = p.kv_heads * p.head_size,
                    tokens = p.batch * p.queries;
      const Dense d = dense(o);
      // The kernels get the reference's out and lse, rounded to their types.
      const reference::Attention forward = reference::attention(p, d.q, d.k, d.v);
      GuardedArray out(dtype, tokens * o.out_stride), lse(DType::kF32, tokens * p.heads);
      spread(forward.out, out, width, o.out_stride);
      spread(forward.lse, lse, 1, 1);
      const reference::AttentionGrad want = reference::attention_grad(
          p, d.q, d.k, d.v, dense(out, 1, tokens, width, o.out_stride, 0), lse.values(), d.dout);
      const int64_t dq_stride = width + 1, dkv_stride = kv_width + 4;
      for (const KernelTable* table : usable_tables()) {
        CAPTURE(shape.name, name_of(dtype), table->name);
        const auto got = run_on_threads([&] {
          GuardedArray dq(dtype, tokens * dq_stride), dk(dtype, p.batch * p.keys * dkv_stride),
              dv = dk;
          AttentionGradArgs args = {arguments(o, dtype), o.dout.data(), dq.data(), dk.data(),
                                    dv.data(),           dq_stride,     dkv_stride};
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
  const Shape shape = {"large", 1, 100, 100, 1, 1, 16};
  Operands o = operands(shape, DType::kF32);
  o.problem.scale = 2000;
  const Dense d = dense(o);
  const reference::Attention want = reference::attention(o.problem, d.q, d.k, d.v);
  Operands broken = o;
  const int64_t broken_key = 70;
  broken.k.set(broken_key * broken.kv_stride + 3, NAN);
  for (const KernelTable* table : usable_tables()) {
    CAPTURE(table->name);
    GuardedArray out(DType::kF32, 100 * o.out_stride), lse(DType::kF32, 100);
    AttentionArgs args = arguments(o, DType::kF32);
    args.out = out.data();
    args.lse = floats(lse);
    table->attention(args);
    CHECK_WITHIN(dense(out, 1, 100, 16, o.out_stride, 0), want.out, Bound{want.out_error});
    CHECK_WITHIN(lse.values(), want.lse, Bound{want.lse_error});
    args.k = broken.k.data();
    table->attention(args);
    for (int64_t i = 0; i < 100; ++i) {
      CHECK(std::isnan(lse.get(i)) == (i >= broken_key));
      CHECK(std::isnan(out.get(i * o.out_stride)) == (i >= broken_key));
    }
  }
}

}  // namespace tenon::test
