// SPDX-License-Identifier: Apache-2.0
// What the kernels must compute, in double precision and plain loops; no code is shared with them.
// Each gradient here is itself checked against central differences
// (tests/kernels/reference_test.cpp).
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernel_table.h"

namespace tenon::test::reference {

using Values = std::vector<double>;

double activation(Activation activation, double x);
double activation_slope(Activation activation, double x);

struct LayerNorm {
  Values y;           // (rows, C)
  Values mean, rstd;  // (rows)
};
LayerNorm layer_norm(const Values& s, const Values& weight, const Values& bias, double eps);

struct LayerNormGrad {
  Values ds;              // (rows, C)
  Values dweight, dbias;  // (C)
};
// Gradients of sum(y dy), with s's mean and rstd as they were kept.
LayerNormGrad layer_norm_grad(const Values& s, const Values& weight, const Values& mean,
                              const Values& rstd, const Values& dy);

struct RmsNorm {
  Values y;     // (rows, C)
  Values rstd;  // (rows)
};
RmsNorm rms_norm(const Values& s, const Values& weight, double eps);

struct RmsNormGrad {
  Values ds;       // (rows, C)
  Values dweight;  // (C)
};
// Gradients of sum(y dy), with s's rstd as it was kept.
RmsNormGrad rms_norm_grad(const Values& s, const Values& weight, const Values& rstd,
                          const Values& dy);

struct CrossEntropy {
  Values loss;      // (rows)
  Values gradient;  // (rows, V), of the sum of the losses
};
CrossEntropy cross_entropy(const Values& logits, const std::vector<int32_t>& targets);

// Arrays here are contiguous: q and out (B, queries, H, D), k and v (B, keys, G, D), lse (B, H,
// queries).
struct AttentionProblem {
  int64_t batch = 1, queries = 1, keys = 1, heads = 1, kv_heads = 1, head_size = 1;
  double scale = 1;
  std::vector<int32_t> doc_start;  // (B, queries) or empty
  double dropout = 0;
  RandomStream random;
  uint64_t sequence0 = 0;

  bool visible(int64_t b, int64_t i, int64_t j) const;
  double keep(int64_t b, int64_t h, int64_t i,
              int64_t j) const;  // 0 where dropped, else 1 / (1 - p)
  int64_t q_at(int64_t b, int64_t i, int64_t h) const {
    return ((b * queries + i) * heads + h) * head_size;
  }
  int64_t k_at(int64_t b, int64_t j, int64_t h) const {
    return ((b * keys + j) * kv_heads + h / (heads / kv_heads)) * head_size;
  }
};

struct Attention {
  Values out, lse;
  Values out_error, lse_error;  // bounds on the error of fp32 kernels, derived in reference.cpp
};
Attention attention(const AttentionProblem& p, const Values& q, const Values& k, const Values& v);

struct AttentionGrad {
  Values dq, dk, dv;
  Values dq_error, dk_error, dv_error;
};
// Gradients of sum(out dout), with out and lse as they were kept.
AttentionGrad attention_grad(const AttentionProblem& p, const Values& q, const Values& k,
                             const Values& v, const Values& out, const Values& lse,
                             const Values& dout);

// Share of the sum of magnitudes that a sum of `terms` may be off by in fp32: the factor of
// Bound::sum.
double sum_share(int64_t terms);

}  // namespace tenon::test::reference
