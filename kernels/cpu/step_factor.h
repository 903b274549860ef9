// SPDX-License-Identifier: Apache-2.0
// What the kernels of optimizers multiply gradients with.
#pragma once

#include "core/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// The factor of GradientScale; false when nothing is to be written. A dry run has no gradients.
inline bool factor_of(const GradientScale& scale, float* factor) {
  double result = scale.unscale;
  if (scale.sum_squares != nullptr && chunks_are_run()) {
    const double squares = *scale.sum_squares;
    if (!__builtin_isfinite(squares)) return false;
    const double limit = scale.max_norm / (__builtin_sqrt(squares) * scale.unscale + 1e-6);
    if (scale.max_norm > 0 && limit < 1) result *= limit;
  }
  *factor = static_cast<float>(result);
  return true;
}

}  // namespace tenon::cpu::TENON_ISA
