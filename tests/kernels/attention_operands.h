// SPDX-License-Identifier: Apache-2.0
// What the attention tests of both devices share: operands with gaps between the tokens, and arrays
// with and without those gaps.
#pragma once

#include "tests/kernels/kernel_test.h"

namespace tenon::test {

struct AttentionShape {
  int64_t batch, queries, keys, heads, kv_heads, head_size;
  int64_t documents = 0;  // their length, or 0
  double dropout = 0;
  int64_t longer_cache = 0;  // keys that the cache holds beyond those in use
};

// Elements between the tokens of q, of k and v, of out and dout.
struct AttentionGaps {
  int64_t q, kv, out;
};

inline std::vector<int32_t> document_starts(const AttentionShape& shape) {
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < shape.batch * shape.queries; ++i) {
    const int64_t key = i % shape.queries + shape.keys - shape.queries;
    // From key 120 on documents of 50 start later, so that 120 and 150 and some after them see
    // nothing.
    const int64_t later = shape.documents == 50 && key >= 120 ? 20 : 0;
    starts.push_back(static_cast<int32_t>(key / shape.documents * shape.documents + later));
  }
  return starts;
}

// The operands as the kernels get them: with gaps between the tokens, as parts of one array have.
struct AttentionOperands {
  reference::AttentionProblem problem;
  DType dtype;
  AttentionGaps gaps;
  GuardedArray q, k, v, dout;
  PlacedArray<int32_t> doc_start;

  int64_t width() const { return problem.heads * problem.head_size; }
  int64_t kv_width() const { return problem.kv_heads * problem.head_size; }
  int64_t tokens() const { return problem.batch * problem.queries; }
  int64_t q_stride() const { return width() + gaps.q; }
  int64_t kv_stride() const { return kv_width() + gaps.kv; }
  int64_t out_stride() const { return width() + gaps.out; }
  int64_t kv_batch_stride() const { return problem.batch == 0 ? 0 : k.count() / problem.batch; }
};

inline AttentionOperands attention_operands(const AttentionShape& shape, AttentionGaps gaps,
                                            DType dtype) {
  const int64_t width = shape.heads * shape.head_size, kv_width = shape.kv_heads * shape.head_size;
  const int64_t tokens = shape.batch * shape.queries;
  const int64_t kept = shape.batch * (shape.keys + shape.longer_cache);
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
  if (shape.documents != 0) p.doc_start = document_starts(shape);
  return {p,
          dtype,
          gaps,
          GuardedArray(dtype, random_values(tokens * (width + gaps.q), 1, -2, 2)),
          GuardedArray(dtype, random_values(kept * (kv_width + gaps.kv), 2, -2, 2)),
          GuardedArray(dtype, random_values(kept * (kv_width + gaps.kv), 3)),
          GuardedArray(dtype, random_values(tokens * (width + gaps.out), 4)),
          PlacedArray<int32_t>(p.doc_start)};
}

// Rows of `width` elements, `stride` apart, without the gaps.
inline reference::Values dense(const GuardedArray& a, int64_t batch, int64_t tokens, int64_t width,
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
inline void spread(const reference::Values& values, GuardedArray& a, int64_t width,
                   int64_t stride) {
  for (size_t i = 0; i < values.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    a.set(at / width * stride + at % width, values[i]);
  }
}

// Nothing was written between the rows, nor around the array.
inline bool gaps_untouched(const GuardedArray& a, int64_t width, int64_t stride) {
  for (int64_t i = 0; i < a.count(); ++i) {
    if (i % stride >= width && !a.untouched(i)) return false;
  }
  return a.guards_intact();
}

// The operands without the gaps.
struct Dense {
  reference::Values q, k, v, dout;
};
inline Dense dense(const AttentionOperands& o) {
  const reference::AttentionProblem& p = o.problem;
  return {dense(o.q, 1, o.tokens(), o.width(), o.q_stride(), 0),
          dense(o.k, p.batch, p.keys, o.kv_width(), o.kv_stride(), o.kv_batch_stride()),
          dense(o.v, p.batch, p.keys, o.kv_width(), o.kv_stride(), o.kv_batch_stride()),
          dense(o.dout, 1, o.tokens(), o.width(), o.out_stride(), 0)};
}

inline AttentionArgs arguments(const AttentionOperands& o) {
  const reference::AttentionProblem& p = o.problem;
  return {.q = o.q.data(),
          .k = o.k.data(),
          .v = o.v.data(),
          .doc_start = p.doc_start.empty() ? nullptr : o.doc_start.data(),
          .batch = p.batch,
          .queries = p.queries,
          .keys = p.keys,
          .heads = p.heads,
          .kv_heads = p.kv_heads,
          .head_size = p.head_size,
          .q_stride = o.q_stride(),
          .kv_stride = o.kv_stride(),
          .out_stride = o.out_stride(),
          .kv_batch_stride = o.kv_batch_stride(),
          .scale = static_cast<float>(p.scale),
          .dropout = static_cast<float>(p.dropout),
          .random = p.random,
          .sequence0 = p.sequence0,
          .dtype = o.dtype};
}

// Bounds of what units that multiply the dtype itself (tensor cores, pairs of bf16) add. The second
// factor of each product is rounded to it before it is multiplied: the probability relative to a
// running maximum (at most 1 and, in the end, divided by a sum of at least 1), P Z, and dS without
// the scale. Each is off by u of itself, plus the underflow of one rounding (pairs take all
// subnormal numbers for 0), and the sums add that up.
struct Rounding {
  reference::Values out, dq, dk, dv;
};
inline Rounding rounding(const AttentionOperands& o, const Dense& d, const reference::Values& lse,
                         const reference::Values& out) {
  const reference::AttentionProblem& p = o.problem;
  const double u = unit_roundoff(o.dtype), tiny = std::max(underflow_error(o.dtype), 0x1p-126);
  const int64_t D = p.head_size;
  const auto dot = [D](const reference::Values& x, int64_t i, const reference::Values& y,
                       int64_t j) {
    double sum = 0;
    for (int64_t e = 0; e < D; ++e) sum += x[size_t(i + e)] * y[size_t(j + e)];
    return sum;
  };
  Rounding r{reference::Values(d.q.size()), reference::Values(d.q.size()),
             reference::Values(d.k.size()), reference::Values(d.k.size())};
  for (int64_t row = 0; row < p.batch * p.heads * p.queries; ++row) {
    const int64_t b = row / (p.heads * p.queries), h = row / p.queries % p.heads,
                  i = row % p.queries, qi = p.q_at(b, i, h);
    for (int64_t j = 0; j < p.keys; ++j) {
      if (!p.visible(b, i, j)) continue;
      const int64_t kj = p.k_at(b, j, h);
      const double share = std::exp(p.scale * dot(d.q, qi, d.k, kj) - lse[size_t(row)]);
      const double keep = p.keep(b, h, i, j);
      const double ds = share * (keep * dot(d.dout, qi, d.v, kj) - dot(d.dout, qi, out, qi));
      const double share_error = u * share * keep + tiny;
      const double ds_error = std::fabs(p.scale) * (u * std::fabs(ds) + tiny);
      for (int64_t e = 0; e < D; ++e) {
        const auto qe = size_t(qi + e), ke = size_t(kj + e);
        r.out[qe] += share_error * std::fabs(d.v[ke]);
        r.dv[ke] += share_error * std::fabs(d.dout[qe]);
        r.dq[qe] += ds_error * std::fabs(d.k[ke]);
        r.dk[ke] += ds_error * std::fabs(d.q[qe]);
      }
    }
  }
  return r;
}

}  // namespace tenon::test
