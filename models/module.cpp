// SPDX-License-Identifier: Apache-2.0
#include "models/module.h"

namespace tenon {

LayerNorm::LayerNorm(int64_t channels, float epsilon)
    : weight{.shape = {channels}, .vector = true},
      bias{.shape = {channels}, .vector = true},
      eps(epsilon) {}

RmsNorm::RmsNorm(int64_t channels, float epsilon)
    : weight{.shape = {channels}, .vector = true}, eps(epsilon) {}

Linear::Linear(int64_t in, int64_t out, WeightLayout weight_layout, bool with_bias)
    : layout(weight_layout) {
  weight.shape = layout == WeightLayout::kOutIn ? Shape{out, in} : Shape{in, out};
  if (with_bias) bias = Parameter{.shape = {out}, .vector = true};
}

LoraFactors Linear::factors(Dropout dropout) const {
  if (!lora) return {};
  LoraFactors factors{
      .a = lora->a.value, .b = lora->b.value, .scale = lora->scale, .dropout = dropout};
  if (lora->bias) factors.bias = lora->bias->value;
  if (lora->dora) {
    factors.magnitude = lora->dora->magnitude.value;
    factors.norms = lora->dora->norms;
  }
  return factors;
}

template <class Op>
auto Linear::with_factors(Dropout dropout, Op op) const {
  const Tensor no_bias;
  const LoraFactors all = factors(dropout);
  return op(bias ? bias->value : no_bias, lora ? &all : nullptr);
}

Tensor Linear::operator()(const Tensor& x, Dropout dropout) const {
  return with_factors(dropout, [&](const Tensor& b, const LoraFactors* factors) {
    return linear(x, weight.weight(), layout, b, factors);
  });
}

Tensor Linear::operator()(const Activated& x, Dropout dropout) const {
  return with_factors(dropout, [&](const Tensor& b, const LoraFactors* factors) {
    return linear(x, weight.weight(), layout, b, factors);
  });
}

Activated Linear::activated(const Tensor& x, Activation kind, Dropout dropout) const {
  return with_factors(dropout, [&](const Tensor& b, const LoraFactors* factors) {
    return linear_activation(x, weight.weight(), layout, b, factors, kind);
  });
}

LinearPart Linear::part(Dropout dropout) const {
  LinearPart part{.weight = weight.weight(), .layout = layout};
  if (bias) part.bias = bias->value;
  part.lora = factors(dropout);
  return part;
}

}  // namespace tenon
