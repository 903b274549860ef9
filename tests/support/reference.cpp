// SPDX-License-Identifier: Apache-2.0
#include "tests/support/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace tenon::test::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kU = 0x1p-24;  // one rounding of fp32

size_t at(int64_t i) { return static_cast<size_t>(i); }

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }

// sum of a[x0 + d] b[y0 + d], and of their magnitudes.
struct Dot {
  double value = 0, magnitude = 0;
};
Dot dot(const Values& a, int64_t x0, const Values& b, int64_t y0, int64_t count) {
  Dot sum;
  for (int64_t d = 0; d < count; ++d) {
    const double term = a[at(x0 + d)] * b[at(y0 + d)];
    sum.value += term;
    sum.magnitude += std::fabs(term);
  }
  return sum;
}

}  // namespace

double sum_share(int64_t terms) {
  const double count = static_cast<double>(terms);
  return std::min(8 * std::sqrt(count) * kU, count * kU / (1 - count * kU));
}

double activation(Activation activation, double x) {
  switch (activation) {
    case Activation::kGeluTanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kGeluErf: return x * normal_cdf(x);
    case Activation::kQuickGelu: return x * sigmoid(1.702 * x);
    case Activation::kRelu: return x > 0 ? x : 0;
    case Activation::kSilu: return x * sigmoid(x);
    case Activation::kTanh: return std::tanh(x);
  }
  return 0;
}

double activation_slope(Activation activation, double x) {
  switch (activation) {
    case Activation::kGeluTanh: {
      // (1 + tanh u) / 2 + x / 2 (1 - tanh^2 u) u', in forms that do not cancel.
      const double c = std::sqrt(2 / std::numbers::pi), u = c * (x + 0.044715 * x * x * x),
                   cosh_u = std::cosh(u);
      return sigmoid(2 * u) + x / 2 / (cosh_u * cosh_u) * c * (1 + 3 * 0.044715 * x * x);
    }
    case Activation::kGeluErf:
      return normal_cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    case Activation::kQuickGelu: {
      const double s = sigmoid(1.702 * x);
      return s + 1.702 * x * s * (1 - s);
    }
    case Activation::kRelu: return x > 0 ? 1 : 0;
    case Activation::kSilu: {
      const double s = sigmoid(x);
      return s + x * s * (1 - s);
    }
    case Activation::kTanh: {
      const double c = std::cosh(x);
      return 1 / (c * c);
    }
  }
  return 0;
}

LayerNorm layer_norm(const Values& s, const Values& weight, const Values& bias, double eps) {
  const size_t channels = weight.size(), rows = s.size() / channels;
  LayerNorm n{Values(s.size()), Values(rows), Values(rows)};
  for (size_t r = 0; r < rows; ++r) {
    double sum = 0, squares = 0;
    for (size_t c = 0; c < channels; ++c) sum += s[r * channels + c];
    n.mean[r] = sum / static_cast<double>(channels);
    for (size_t c = 0; c < channels; ++c) squares += std::pow(s[r * channels + c] - n.mean[r], 2);
    n.rstd[r] = 1 / std::sqrt(squares / static_cast<double>(channels) + eps);
    for (size_t c = 0; c < channels; ++c) {
      n.y[r * channels + c] = (s[r * channels + c] - n.mean[r]) * n.rstd[r] * weight[c] + bias[c];
    }
  }
  return n;
}

LayerNormGrad layer_norm_grad(const Values& s, const Values& weight, const Values& mean,
                              const Values& rstd, const Values& dy) {
  const size_t channels = weight.size(), rows = s.size() / channels;
  LayerNormGrad g{Values(s.size()), Values(channels), Values(channels)};
  for (size_t r = 0; r < rows; ++r) {
    double sum_g = 0, sum_gn = 0;
    for (size_t c = 0; c < channels; ++c) {
      const double d = dy[r * channels + c], n = (s[r * channels + c] - mean[r]) * rstd[r];
      sum_g += d * weight[c];
      sum_gn += d * weight[c] * n;
      g.dweight[c] += d * n;
      g.dbias[c] += d;
    }
    for (size_t c = 0; c < channels; ++c) {
      const double n = (s[r * channels + c] - mean[r]) * rstd[r],
                   count = static_cast<double>(channels);
      g.ds[r * channels + c] =
          rstd[r] * (dy[r * channels + c] * weight[c] - sum_g / count - n * sum_gn / count);
    }
  }
  return g;
}

RmsNorm rms_norm(const Values& s, const Values& weight, double eps) {
  const size_t channels = weight.size(), rows = s.size() / channels;
  RmsNorm n{Values(s.size()), Values(rows)};
  for (size_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (size_t c = 0; c < channels; ++c) squares += std::pow(s[r * channels + c], 2);
    n.rstd[r] = 1 / std::sqrt(squares / static_cast<double>(channels) + eps);
    for (size_t c = 0; c < channels; ++c)
      n.y[r * channels + c] = s[r * channels + c] * n.rstd[r] * weight[c];
  }
  return n;
}

// With g = dy weight: d rstd / d s_c = -rstd^3 s_c / C, so ds = rstd g - rstd^3 s mean(g s).
RmsNormGrad rms_norm_grad(const Values& s, const Values& weight, const Values& rstd,
                          const Values& dy) {
  const size_t channels = weight.size(), rows = s.size() / channels;
  RmsNormGrad g{Values(s.size()), Values(channels)};
  for (size_t r = 0; r < rows; ++r) {
    double sum_gs = 0;
    for (size_t c = 0; c < channels; ++c) {
      const size_t i = r * channels + c;
      sum_gs += dy[i] * weight[c] * s[i];
      g.dweight[c] += dy[i] * s[i] * rstd[r];
    }
    const double back = std::pow(rstd[r], 3) * sum_gs / static_cast<double>(channels);
    for (size_t c = 0; c < channels; ++c) {
      const size_t i = r * channels + c;
      g.ds[i] = rstd[r] * dy[i] * weight[c] - back * s[i];
    }
  }
  return g;
}

CrossEntropy cross_entropy(const Values& logits, const std::vector<int32_t>& targets) {
  const size_t rows = targets.size(), vocabulary = logits.size() / rows;
  CrossEntropy out{Values(rows), Values(logits.size())};
  for (size_t r = 0; r < rows; ++r) {
    const double* x = &logits[r * vocabulary];
    const double maximum = *std::max_element(x, x + vocabulary);
    double sum = 0;
    for (size_t i = 0; i < vocabulary; ++i) sum += std::exp(x[i] - maximum);
    const auto target = static_cast<size_t>(targets[r]);
    out.loss[r] = std::log(sum) + maximum - x[target];
    for (size_t i = 0; i < vocabulary; ++i) {
      out.gradient[r * vocabulary + i] = std::exp(x[i] - maximum) / sum - (i == target ? 1 : 0);
    }
  }
  return out;
}

bool AttentionProblem::visible(int64_t b, int64_t i, int64_t j) const {
  const int64_t start = doc_start.empty() ? 0 : doc_start[at(b * queries + i)];
  return j >= start && j <= i + keys - queries;
}

double AttentionProblem::keep(int64_t b, int64_t h, int64_t i, int64_t j) const {
  if (dropout == 0) return 1;
  const uint64_t row = ((sequence0 + static_cast<uint64_t>(b)) * static_cast<uint64_t>(heads) +
                        static_cast<uint64_t>(h)) *
                           static_cast<uint64_t>(queries) +
                       static_cast<uint64_t>(i);
  const uint64_t position =
      row * static_cast<uint64_t>((keys + 3) / 4 * 4) + static_cast<uint64_t>(j);
  return philox_word(random, position) < dropout * 4294967296.0 ? 0 : 1 / (1 - dropout);
}

// Bounds. A score is a dot product of D terms, times scale: it is off by share(D) |scale| sum|q k|,
// and by one rounding more, as is its difference from the maximum. The largest of these over the
// keys, plus 4 u for exp, is the relative error e of every probability; numerator and denominator
// then add share(keys) each, and 3 u for each rescaling.
Attention attention(const AttentionProblem& p, const Values& q, const Values& k, const Values& v) {
  const int64_t D = p.head_size;
  Attention result{
      Values(q.size()), Values(at(p.batch * p.heads * p.queries)), Values(q.size()), {}};
  result.lse_error = result.lse;
  const double sums = sum_share(p.keys) + 3 * kU * static_cast<double>(p.keys / 64 + 1);
  for (int64_t row = 0; row < p.batch * p.heads * p.queries; ++row) {
    const int64_t b = row / (p.heads * p.queries), h = row / p.queries % p.heads,
                  i = row % p.queries;
    Values score(at(p.keys), -kInfinity);
    double maximum = -kInfinity, e = 0;
    for (int64_t j = 0; j < p.keys; ++j) {
      if (!p.visible(b, i, j)) continue;
      const Dot d = dot(q, p.q_at(b, i, h), k, p.k_at(b, j, h), D);
      score[at(j)] = p.scale * d.value;
      maximum = std::max(maximum, score[at(j)]);
      e = std::max(e, std::fabs(p.scale) * (sum_share(D) + 4 * kU) * d.magnitude);
    }
    e += 6 * kU;
    double sum = 0;
    for (int64_t j = 0; j < p.keys; ++j)
      sum += maximum == -kInfinity ? 0 : std::exp(score[at(j)] - maximum);
    result.lse[at(row)] = maximum + std::log(sum);
    result.lse_error[at(row)] = e + sums + 2 * kU * (std::fabs(maximum) + std::fabs(std::log(sum)));
    for (int64_t j = 0; j < p.keys && sum > 0; ++j) {
      const double share = std::exp(score[at(j)] - maximum) / sum * p.keep(b, h, i, j);
      for (int64_t d = 0; d < D; ++d) {
        const double term = share * v[at(p.k_at(b, j, h) + d)];
        result.out[at(p.q_at(b, i, h) + d)] += term;
        result.out_error[at(p.q_at(b, i, h) + d)] += std::fabs(term) * (2 * e + 2 * sums + 4 * kU);
      }
    }
  }
  return result;
}

// Bounds. P = exp(s - lse) is off by e P as above (lse is given). dP and delta are dot products of
// D terms, so dS = scale P (dP - delta) is off by |scale| P times ((e + 4 u) (|dP| + |delta|) +
// share(D) of their magnitudes). A gradient sums such terms times k, q or dout: their errors add
// up, and the sum itself is off by its share.
AttentionGrad attention_grad(const AttentionProblem& p, const Values& q, const Values& k,
                             const Values& v, const Values& out, const Values& lse,
                             const Values& dout) {
  const int64_t D = p.head_size, group = p.heads / p.kv_heads;
  AttentionGrad g{Values(q.size()), Values(k.size()), Values(v.size()),
                  Values(q.size()), Values(k.size()), Values(v.size())};
  const double over_keys = sum_share(p.keys) + 2 * kU,
               over_queries = sum_share(p.queries * group) + 2 * kU;
  for (int64_t row = 0; row < p.batch * p.heads * p.queries; ++row) {
    const int64_t b = row / (p.heads * p.queries), h = row / p.queries % p.heads,
                  i = row % p.queries;
    const int64_t qi = p.q_at(b, i, h);
    const Dot delta = dot(dout, qi, out, qi, D);
    for (int64_t j = 0; j < p.keys; ++j) {
      if (!p.visible(b, i, j)) continue;
      const int64_t kj = p.k_at(b, j, h);
      const Dot score = dot(q, qi, k, kj, D), dp = dot(dout, qi, v, kj, D);
      const double keep = p.keep(b, h, i, j),
                   share = std::exp(p.scale * score.value - lse[at(row)]);
      const double e = std::fabs(p.scale) * (sum_share(D) + 2 * kU) * score.magnitude +
                       kU * (6 + 2 * std::fabs(lse[at(row)]));
      const double ds = p.scale * share * (keep * dp.value - delta.value);
      const double ds_error =
          std::fabs(p.scale) * share *
          ((e + 4 * kU) * (keep * std::fabs(dp.value) + std::fabs(delta.value)) +
           (sum_share(D) + kU) * (keep * dp.magnitude + delta.magnitude));
      for (int64_t d = 0; d < D; ++d) {
        const double kd = k[at(kj + d)], qd = q[at(qi + d)], od = share * keep * dout[at(qi + d)];
        g.dq[at(qi + d)] += ds * kd;
        g.dq_error[at(qi + d)] += (ds_error + over_keys * std::fabs(ds)) * std::fabs(kd);
        g.dk[at(kj + d)] += ds * qd;
        g.dk_error[at(kj + d)] += (ds_error + over_queries * std::fabs(ds)) * std::fabs(qd);
        g.dv[at(kj + d)] += od;
        g.dv_error[at(kj + d)] += (e + over_queries) * std::fabs(od);
      }
    }
  }
  return g;
}

}  // namespace tenon::test::reference
