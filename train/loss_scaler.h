// SPDX-License-Identifier: Apache-2.0
// Dynamic loss scaling for fp16 activations (Micikevicius et al., arXiv:1710.03740): the loss is
// multiplied by a power of two so that small gradients do not underflow; a step whose gradients
// overflow is skipped and the scale halved. With other dtypes the scale is 1 and an overflow is a
// failure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dtype.h"

namespace tenon {

class LossScaler {
 public:
  explicit LossScaler(DType activations)
      : dynamic_(activations == DType::kF16), scale_(dynamic_ ? 65536 : 1) {}

  double scale() const { return scale_; }
  int64_t good_steps() const { return good_steps_; }
  void restore(double scale, int64_t good_steps) {
    scale_ = scale;
    good_steps_ = good_steps;
  }

  // After a step whose gradients were (not) finite. Returns false when it cannot be mended by a
  // smaller scale.
  bool update(bool finite) {
    if (finite) {
      if (dynamic_ && ++good_steps_ % kGrowEvery == 0) scale_ = std::min(2 * scale_, kMost);
      return true;
    }
    if (!dynamic_ || scale_ <= 1) return false;
    scale_ /= 2;
    good_steps_ = 0;
    return true;
  }

 private:
  static constexpr int64_t kGrowEvery = 2000;
  static constexpr double kMost = 16777216;
  bool dynamic_;
  double scale_;
  int64_t good_steps_ = 0;
};

}  // namespace tenon
