// SPDX-License-Identifier: Apache-2.0
// A linear whose adapter is a DoRA (LoraFactors in core/ops.h), made of other ops.
#pragma once

#include "core/ops.h"

namespace tenon {

inline bool is_dora(const LinearPart& part) { return part.lora.magnitude.defined(); }

// Requires: is_dora(part).
Tensor dora_linear(const Tensor& x, const LinearPart& part);
Tensor dora_linear(const Activated& x, const LinearPart& part);

}  // namespace tenon
