// SPDX-License-Identifier: Apache-2.0
// Attention and its gradient on every CUDA table. The bounds are those of the CPU's kernels
// (tests/support/reference.cpp), and for products on tensor cores one term more: see `rounding`.
#include "tests/kernels/attention_operands.h"

namespace tenon::test {
namespace {

struct Shape {
  const char* name;
  int64_t batch, queries, keys, heads, kv_heads, head_size;
  int64_t documents = 0;  // their length, or 0
  double dropout = 0;
  bool lse = true;  // not kept: few queries take the kernels of generation
  int64_t gap = 8;  // elements between tokens; 8 leaves rows aligned to 16 bytes, 3 does not
  int64_t longer_cache = 0;  // keys that the cache holds beyond those in use
  bool anywhere = false;     // also in arrays that are aligned to their element and no more
};

constexpr Shape kShapes[] = {
    {"one token", 1, 1, 1, 1, 1, 8},
    {"no tokens", 2, 0, 0, 2, 1, 8},
    {"less than a tile, grouped heads", 2, 15, 15, 3, 1, 40, 0, 0, true, 8, 0, true},
    {"rows of one warp", 1, 16, 16, 1, 1, 64, 0, 0.25},
    {"one row more, documents", 1, 17, 17, 4, 2, 80, 50, 0, true, 3},
    {"one row less than a tile", 1, 63, 63, 2, 2, 96, 50, 0.1},
    {"one row more than a tile, dropout", 2, 65, 65, 4, 2, 64, 0, 0.25},
    {"three tiles, documents, dropout", 1, 130, 130, 2, 1, 128, 50, 0.1},
    {"odd heads, dropout", 1, 65, 65, 2, 1, 7, 50, 0.1, true, 3},
    {"long heads, documents", 1, 65, 65, 2, 1, 256, 50, 0.1},
    {"longer heads", 1, 17, 17, 1, 1, 264, 0, 0.25},
    {"many queries, cache", 2, 30, 130, 3, 1, 40, 65, 0, true, 8, 3, true},
    {"one key of a tile hidden from one query", 1, 2, 64, 1, 1, 32},
    {"a document that starts one key after a tile", 1, 24, 130, 2, 1, 128, 65},
    {"documents of many tiles", 1, 200, 200, 1, 1, 8, 50},
    {"more queries than keys: the first see nothing", 1, 100, 30, 2, 2, 32},
    {"generation: one query", 2, 1, 77, 3, 1, 64, 0, 0, false, 8, 19},
    {"generation: some queries, splits of the keys", 1, 5, 300, 4, 2, 128, 50, 0, false, 8, 0,
     true},
    {"generation: odd heads", 1, 2, 130, 6, 1, 7, 0, 0, false, 3},
    {"generation: more queries than keys", 1, 8, 3, 2, 2, 80, 0, 0, false},
};

AttentionOperands operands(const Shape& s, DType dtype) {
  const AttentionShape shape = {s.batch,     s.queries,   s.keys,    s.heads,       s.kv_heads,
                                s.head_size, s.documents, s.dropout, s.longer_cache};
  return attention_operands(shape, {s.gap, s.gap, 2 * s.gap}, dtype);
}

// What the backward pass gets: the reference's out and lse, rounded to their types.
struct Kept {
  GuardedArray out, lse;
};
Kept keep(const AttentionOperands& o, const reference::Attention& forward) {
  Kept kept{GuardedArray(o.dtype, o.tokens() * o.out_stride()),
            GuardedArray(DType::kF32, o.tokens() * o.problem.heads)};
  spread(forward.out, kept.out, o.width(), o.out_stride());
  spread(forward.lse, kept.lse, 1, 1);
  return kept;
}

bool on_tensor_cores(const KernelTable& table, const AttentionOperands& o) {
  const std::string name = table.name;
  const bool bf16 = name != "sm70" && name != "sm75";
  return o.problem.head_size <= 256 &&
         (o.dtype == DType::kF16 || (o.dtype == DType::kBF16 && bf16));
}

// Every shape runs in arrays that are aligned; a few are enough elsewhere. Where there are several
// tables, large shapes run on one of those that share their code: without tensor cores that is
// every table, and sm_70's differs from sm_75's in its products alone, which are slow to imitate.
bool skips(const Target& target, const Shape& shape, const AttentionOperands& o) {
  if (target.place.offset != 0 && !shape.anywhere) return true;
  const KernelTable* table = target.table;
  const bool shared = !on_tensor_cores(*table, o) || std::string(table->name) == "sm70";
  return shared && shape.queries * shape.heads > 64 && table != targets().front().table;
}

// What run() gives; with one dtype it is run twice, and must give the same bytes.
template <class Run>
std::vector<GuardedArray> outputs(DType dtype, const Run& run) {
  return dtype == DType::kF16 ? run_on_threads(run) : run();
}

// `error` of fp32 arithmetic, `rounded` where tensor cores multiply, and the result's rounding.
Bound bound(const KernelTable& table, const AttentionOperands& o, reference::Values error,
            const reference::Values& rounded) {
  if (on_tensor_cores(table, o)) {
    for (size_t i = 0; i < error.size(); ++i)
      error[i] = error[i] * (1 + unit_roundoff(o.dtype)) + rounded[i];
  }
  return Bound{error}.then_round(o.dtype);
}

}  // namespace

TEST_CASE("attention on CUDA matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      const AttentionOperands host = operands(shape, dtype);
      const Dense d = dense(host);
      const reference::Attention want = reference::attention(host.problem, d.q, d.k, d.v);
      const Rounding rounded = rounding(host, d, want.lse, want.out);
      for (const Target& target : targets()) {
        if (skips(target, shape, host)) continue;
        const KernelTable* table = target.enter();
        CAPTURE(shape.name, name_of(dtype), target.name);
        const AttentionOperands o = operands(shape, dtype);
        const auto got = outputs(dtype, [&] {
          GuardedArray out(dtype, o.tokens() * o.out_stride()),
              lse(DType::kF32, o.tokens() * shape.heads);
          AttentionArgs args = arguments(o);
          args.out = out.data();
          args.lse = shape.lse ? floats(lse) : nullptr;
          table->attention(args);
          return std::vector<GuardedArray>{out, lse};
        });
        CHECK_WITHIN(dense(got[0], 1, o.tokens(), o.width(), o.out_stride(), 0), want.out,
                     bound(*table, o, want.out_error, rounded.out));
        if (shape.lse) CHECK_WITHIN(got[1].values(), want.lse, Bound{want.lse_error});
        CHECK(gaps_untouched(got[0], o.width(), o.out_stride()));
      }
    }
  }
}

TEST_CASE("attention_grad on CUDA matches the double reference", "[kernels]") {
  for (DType dtype : kFloats) {
    for (const Shape& shape : kShapes) {
      if (!shape.lse) continue;
      const AttentionOperands host = operands(shape, dtype);
      const reference::AttentionProblem& p = host.problem;
      const Dense d = dense(host);
      const reference::Attention forward = reference::attention(p, d.q, d.k, d.v);
      const Kept kept = keep(host, forward);
      const reference::Values kept_out =
          dense(kept.out, 1, host.tokens(), host.width(), host.out_stride(), 0);
      const reference::AttentionGrad want =
          reference::attention_grad(p, d.q, d.k, d.v, kept_out, kept.lse.values(), d.dout);
      const Rounding rounded = rounding(host, d, kept.lse.values(), kept_out);
      const int64_t keys = p.batch * p.keys, width = host.width(), kv_width = host.kv_width();
      const int64_t dq_stride = width + shape.gap, dkv_stride = kv_width + 2 * shape.gap;
      for (const Target& target : targets()) {
        if (skips(target, shape, host)) continue;
        const KernelTable* table = target.enter();
        CAPTURE(shape.name, name_of(dtype), target.name);
        const AttentionOperands o = operands(shape, dtype);
        const Kept in = keep(o, forward);
        const auto got = outputs(dtype, [&] {
          GuardedArray dq(dtype, o.tokens() * dq_stride), dk(dtype, keys * dkv_stride),
              dv(dtype, keys * dkv_stride);
          AttentionGradArgs args = {arguments(o), o.dout.data(), dq.data(), dk.data(),
                                    dv.data(),    dq_stride,     dkv_stride};
          args.forward.out = const_cast<void*>(in.out.data());
          args.forward.lse = const_cast<float*>(floats(in.lse));
          table->attention_grad(args);
          return std::vector<GuardedArray>{dq, dk, dv};
        });
        CHECK_WITHIN(dense(got[0], 1, o.tokens(), width, dq_stride, 0), want.dq,
                     bound(*table, o, want.dq_error, rounded.dq));
        CHECK_WITHIN(dense(got[1], 1, keys, kv_width, dkv_stride, 0), want.dk,
                     bound(*table, o, want.dk_error, rounded.dk));
        CHECK_WITHIN(dense(got[2], 1, keys, kv_width, dkv_stride, 0), want.dv,
                     bound(*table, o, want.dv_error, rounded.dv));
        CHECK(gaps_untouched(got[0], width, dq_stride));
        CHECK(gaps_untouched(got[1], kv_width, dkv_stride));
        CHECK(gaps_untouched(got[2], kv_width, dkv_stride));
      }
    }
  }
}

// As core/ops/attention.cpp calls it: q, k and v are parts of one array; so are their gradients.
TEST_CASE("attention on CUDA takes q, k and v from one array", "[kernels]") {
  const int64_t T = 33, H = 4, G = 2, D = 40, width = (H + 2 * G) * D;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (DType dtype : {DType::kF32, DType::kF16}) {
      CAPTURE(name_of(dtype), target.name);
      // The same values in one array, and in three.
      const GuardedArray qkv(dtype, random_values(T * width, 1, -2, 2)),
          dout(dtype, random_values(T * H * D, 2));
      GuardedArray parts[3] = {GuardedArray(dtype, T * H * D), GuardedArray(dtype, T * G * D),
                               GuardedArray(dtype, T * G * D)};
      const int64_t begin[3] = {0, H * D, (H + G) * D}, size[3] = {H * D, G * D, G * D};
      for (int i = 0; i < 3; ++i) {
        for (int64_t at = 0; at < T * size[i]; ++at)
          parts[i].set(at, qkv.get(at / size[i] * width + begin[i] + at % size[i]));
      }
      AttentionArgs args = {.doc_start = nullptr,
                            .batch = 1,
                            .queries = T,
                            .keys = T,
                            .heads = H,
                            .kv_heads = G,
                            .head_size = D,
                            .out_stride = H * D,
                            .kv_batch_stride = T * width,
                            .scale = 0.2f,
                            .dtype = dtype};
      const auto run = [&](const void* const(&from)[3], const int64_t(&stride)[3],
                           void* const(&to)[3]) {
        GuardedArray out(dtype, T * H * D), lse(DType::kF32, T * H);
        args.q = from[0];
        args.k = from[1];
        args.v = from[2];
        args.q_stride = stride[0];
        args.kv_stride = stride[1];
        args.out = out.data();
        args.lse = floats(lse);
        table->attention(args);
        table->attention_grad({args, dout.data(), to[0], to[1], to[2], stride[0], stride[1]});
        return out;
      };
      GuardedArray dqkv(dtype, T * width), dparts[3] = {parts[0], parts[1], parts[2]};
      const auto inside = [&](auto* data, int i) {
        using Bytes = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(data)>>,
                                         const char, char>;
        return static_cast<Bytes*>(data) + begin[i] * size_of(dtype);
      };
      const GuardedArray out =
          run({inside(qkv.data(), 0), inside(qkv.data(), 1), inside(qkv.data(), 2)},
              {width, width, width},
              {inside(dqkv.data(), 0), inside(dqkv.data(), 1), inside(dqkv.data(), 2)});
      const GuardedArray apart =
          run({parts[0].data(), parts[1].data(), parts[2].data()}, {size[0], size[1], size[2]},
              {dparts[0].data(), dparts[1].data(), dparts[2].data()});
      CHECK(out.bytes() == apart.bytes());
      for (int i = 0; i < 3; ++i) {
        reference::Values got;
        for (int64_t at = 0; at < T * size[i]; ++at)
          got.push_back(dqkv.get(at / size[i] * width + begin[i] + at % size[i]));
        CHECK(got == dparts[i].values());
      }
    }
  }
}

TEST_CASE("attention on CUDA survives scores of 1e4 and spreads NaN to the rows that see it",
          "[kernels]") {
  const Shape shape = {"large", 1, 100, 100, 1, 1, 16};
  const int64_t broken_key = 70;
  for (DType dtype : {DType::kF32, DType::kF16}) {
    AttentionOperands host = operands(shape, dtype);
    host.problem.scale = 2000;
    const Dense d = dense(host);
    const reference::Attention want = reference::attention(host.problem, d.q, d.k, d.v);
    const Rounding rounded = rounding(host, d, want.lse, want.out);
    for (const Target& target : targets()) {
      if (skips(target, shape, host)) continue;
      const KernelTable* table = target.enter();
      CAPTURE(name_of(dtype), target.name);
      AttentionOperands o = operands(shape, dtype);
      o.problem.scale = host.problem.scale;
      GuardedArray out(dtype, 100 * o.out_stride()), lse(DType::kF32, 100);
      const auto run = [&] {
        AttentionArgs args = arguments(o);
        args.out = out.data();
        args.lse = floats(lse);
        table->attention(args);
      };
      run();
      CHECK_WITHIN(dense(out, 1, 100, 16, o.out_stride(), 0), want.out,
                   bound(*table, o, want.out_error, rounded.out));
      CHECK_WITHIN(lse.values(), want.lse, Bound{want.lse_error});
      o.k.set(broken_key * o.kv_stride() + 3, NAN);
      run();
      for (int64_t i = 0; i < 100; ++i) {
        CHECK(std::isnan(lse.get(i)) == (i >= broken_key));
        CHECK(std::isnan(out.get(i * o.out_stride())) == (i >= broken_key));
      }
    }
  }
}

}  // namespace tenon::test
