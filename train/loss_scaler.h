// SPDX-License-Identifier: Apache-2.0
// Dynamic loss scaling for fp16 activations (Micikevicius et al., arXiv:1710.03740): the loss is
// multiplied by a scale so that small gradients do not underflow; a step whose gradients overflow is
// skipped and the scale made smaller. With other dtypes the scale is 1 and an overflow is a failure.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dtype.h"

namespace tenon {

struct LossScaling {
  double first = 65536;
  int64_t grow_every = 2000;  // good steps, after which the scale is doubled
  double back_off = 0.5;      // what an overflow multiplies it with
};

class LossScaler {
 public:
  explicit LossScaler(DType activations, const LossScaling& options = {})
      : options_(options),
        dynamic_(activations == DType::kF16),
        scale_(dynamic_ ? options.first : 1) {}

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
      if (dynamic_ && ++good_steps_ % options_.grow_every == 0)
        scale_ = std::min(2 * scale_, kMost);
      return true;
    }
    if (!dynamic_ || scale_ <= 1) return false;
    scale_ = std::max(1.0, scale_ * options_.back_off);
    good_steps_ = 0;
    return true;
  }

 private:
  static constexpr double kMost = 16777216;
  LossScaling options_;
  bool dynamic_;
  double scale_;
  int64_t good_steps_ = 0;
};

}  // namespace tenon
