// SPDX-License-Identifier: Apache-2.0
#include "core/ops/dora.h"

namespace tenon {
namespace {

// Without dropout: the product with W + scale B A, then its columns. `x` is a Tensor or Activated.
template <class Input>
Tensor whole(const Input& x, const LinearPart& part) {
  const LoraFactors& lora = part.lora;
  TENON_CHECK(!lora.bias.defined(), "[linear] a DoRA has no bias of its own");
  const LoraFactors factors{.a = lora.a, .b = lora.b, .scale = lora.scale};
  const Tensor z = linear(x, part.weight, part.layout, {}, &factors);
  return scale_columns(z, lora.magnitude, lora.norms, part.bias);
}

}  // namespace

// x W^T + dropped(x) (W' - W)^T = dropped(x) W'^T + (x - dropped(x)) W^T.
Tensor dora_linear(const Tensor& x, const LinearPart& part) {
  const Dropout& dropout = part.lora.dropout;
  if (dropout.p == 0) return whole(x, part);
  const Tensor changed = whole(tenon::dropout(x, dropout), part);
  const Tensor rest = residual_add(x, scaled(x, -1), dropout);
  return residual_add(changed, linear(rest, part.weight, part.layout, {}, nullptr), {});
}

Tensor dora_linear(const Activated& x, const LinearPart& part) {
  if (part.lora.dropout.p == 0) return whole(x, part);
  return dora_linear(x.v.defined() ? activation(x.v, x.kind) : x.value, part);
}

}  // namespace tenon
