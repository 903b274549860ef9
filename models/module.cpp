// SPDX-License-Identifier: Apache-2.0
#include "models/module.h"

namespace tenon {

LayerNorm::LayerNorm(int64_t channels, float epsilon)
    : weight{.shape = {channels}, .vector = true},
      bias{.shape = {channels}, .vector = true},
      eps(epsilon) {}

Linear::Linear(int64_t in, int64_t out, WeightLayout weight_layout, bool with_bias)
    : layout(weight_layout) {
  weight.shape = layout == WeightLayout::kOutIn ? Shape{out, in} : Shape{in, out};
  if (with_bias) bias = Parameter{.shape = {out}, .vector = true};
}

Tensor Linear::operator()(const Tensor& x, Dropout dropout) const {
  const Tensor no_bias;
  const Tensor& b = bias ? bias->value : no_bias;
  if (!lora) return linear(x, weight.value, layout, b, nullptr);
  const LoraFactors factors{
      .a = lora->a.value, .b = lora->b.value, .scale = lora->scale, .dropout = dropout};
  return linear(x, weight.value, layout, b, &factors);
}

}  // namespace tenon
