// SPDX-License-Identifier: Apache-2.0
// Stochastic gradient descent, with momentum or without.
#include "train/update_rule.h"

namespace tenon {
namespace {

std::vector<StateTensor> state(const Parameter& parameter, const OptimizerOptions& options) {
  if (options.momentum == 0) return {};
  return {zero_state(parameter, "m")};
}

void step(const UpdateStep& s) {
  s.kernels.sgd({.list = s.list,
                 .scale = s.scale,
                 .rounding = s.rounding,
                 .lr = static_cast<float>(s.lr),
                 .momentum = static_cast<float>(s.options.momentum)});
}

}  // namespace

const UpdateRule kSgd{state, step, /*cuda=*/true};

}  // namespace tenon
