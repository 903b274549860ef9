// SPDX-License-Identifier: Apache-2.0
// The references' own gradients against central differences in double.
#include <functional>

#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

using reference::Values;

Values random_doubles(int64_t count, uint32_t seed, float low = -1, float high = 1) {
  const std::vector<float> values = random_values(count, seed, low, high);
  return Values(values.begin(), values.end());
}

double weighted_sum(const Values& y, const Values& dy) {
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += y[i] * dy[i];
  return sum;
}

// `gradient` must be that of f at x, within 1e-7 of the largest element: a step of 1e-5 is off by
// about 1e-10 for the curvature and 1e-11 for rounding.
void check_gradient(Values x, const Values& gradient,
                    const std::function<double(const Values&)>& f) {
  REQUIRE(gradient.size() == x.size());
  Values numeric;
  double largest = 1e-3;
  for (size_t i = 0; i < x.size(); ++i) {
    const double kept = x[i], step = 1e-5;
    x[i] = kept + step;
    const double above = f(x);
    x[i] = kept - step;
    numeric.push_back((above - f(x)) / (2 * step));
    x[i] = kept;
    largest = std::max(largest, std::fabs(numeric.back()));
  }
  CHECK_WITHIN(gradient, numeric, Bound::fixed(1e-7 * largest));
}

}  // namespace

TEST_CASE("reference activations have the right slopes", "[reference]") {
  for (Activation a : {Activation::kGeluTanh, Activation::kGeluErf, Activation::kQuickGelu,
                       Activation::kRelu, Activation::kSilu, Activation::kTanh}) {
    CAPTURE(static_cast<int>(a));
    const Values x = random_doubles(200, 1, -6, 6);
    Values slope;
    for (double v : x) slope.push_back(reference::activation_slope(a, v));
    check_gradient(x, slope, [&](const Values& at) {
      double sum = 0;
      for (double v : at) sum += reference::activation(a, v);
      return sum;
    });
  }
}

TEST_CASE("reference layer_norm has the right gradients", "[reference]") {
  const Values s = random_doubles(4 * 9, 1, -2, 3), weight = random_doubles(9, 2),
               bias = random_doubles(9, 3), dy = random_doubles(4 * 9, 4);
  const double eps = 1e-3;
  const reference::LayerNorm n = reference::layer_norm(s, weight, bias, eps);
  const reference::LayerNormGrad g = reference::layer_norm_grad(s, weight, n.mean, n.rstd, dy);
  check_gradient(s, g.ds, [&](const Values& x) {
    return weighted_sum(reference::layer_norm(x, weight, bias, eps).y, dy);
  });
  check_gradient(weight, g.dweight, [&](const Values& x) {
    return weighted_sum(reference::layer_norm(s, x, bias, eps).y, dy);
  });
  check_gradient(bias, g.dbias, [&](const Values& x) {
    return weighted_sum(reference::layer_norm(s, weight, x, eps).y, dy);
  });
}

TEST_CASE("reference rms_norm has the right gradients", "[reference]") {
  const Values s = random_doubles(4 * 9, 1, -2, 3), weight = random_doubles(9, 2),
               dy = random_doubles(4 * 9, 4);
  const double eps = 1e-3;
  const reference::RmsNorm n = reference::rms_norm(s, weight, eps);
  const reference::RmsNormGrad g = reference::rms_norm_grad(s, weight, n.rstd, dy);
  check_gradient(s, g.ds, [&](const Values& x) {
    return weighted_sum(reference::rms_norm(x, weight, eps).y, dy);
  });
  check_gradient(weight, g.dweight, [&](const Values& x) {
    return weighted_sum(reference::rms_norm(s, x, eps).y, dy);
  });
}

TEST_CASE("reference cross_entropy has the right gradient", "[reference]") {
  const std::vector<int32_t> targets = {0, 6, 3};
  const Values logits = random_doubles(3 * 7, 1, -3, 3);
  check_gradient(logits, reference::cross_entropy(logits, targets).gradient, [&](const Values& x) {
    double sum = 0;
    for (double loss : reference::cross_entropy(x, targets).loss) sum += loss;
    return sum;
  });
}

TEST_CASE("reference attention has the right gradients", "[reference]") {
  for (double dropout : {0.0, 0.3}) {
    for (bool documents : {false, true}) {
      CAPTURE(dropout, documents);
      reference::AttentionProblem p = {.batch = 2,
                                       .queries = 5,
                                       .keys = 7,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .head_size = 3,
                                       .scale = 0.7,
                                       .dropout = dropout,
                                       .random = {.seed = 5},
                                       .sequence0 = 1};
      if (documents) p.doc_start = {0, 1, 1, 4, 4, 2, 2, 2, 2, 6};
      const Values q = random_doubles(2 * 5 * 4 * 3, 1), k = random_doubles(2 * 7 * 2 * 3, 2),
                   v = random_doubles(2 * 7 * 2 * 3, 3), dout = random_doubles(2 * 5 * 4 * 3, 4);
      const reference::Attention a = reference::attention(p, q, k, v);
      const reference::AttentionGrad g = reference::attention_grad(p, q, k, v, a.out, a.lse, dout);
      const auto loss = [&](const Values& x, const Values& y, const Values& z) {
        return weighted_sum(reference::attention(p, x, y, z).out, dout);
      };
      check_gradient(q, g.dq, [&](const Values& x) { return loss(x, k, v); });
      check_gradient(k, g.dk, [&](const Values& x) { return loss(q, x, v); });
      check_gradient(v, g.dv, [&](const Values& x) { return loss(q, k, x); });
    }
  }
}

}  // namespace tenon::test
