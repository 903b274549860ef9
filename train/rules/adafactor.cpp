// SPDX-License-Identifier: Apache-2.0
// Adafactor (Shazeer and Stern 2018, arXiv:1804.04235) as torch.optim.Adafactor has it:
// a matrix' second moment as the means of its rows and columns, no first moment, an update whose
// size follows the weights' and falls with 1 / sqrt(step) once that is less than the learning rate.
#include <algorithm>
#include <cmath>

#include "train/update_rule.h"

namespace tenon {
namespace {

constexpr double kDecay = -0.8;       // the newest gradient counts step^kDecay
constexpr double kLeastScale = 1e-3;  // of the weights' root mean square
constexpr double kMostRms = 1;        // of an update, before it is scaled
constexpr double kLeast = 1e-30;      // of a mean of squares, as the paper has it

bool is_matrix(const Parameter& parameter) { return parameter.shape.rank() == 2; }

StateTensor zeros(const Parameter& parameter, const char* suffix, int64_t count) {
  return {suffix,
          Tensor::zeros({count}, DType::kF32, parameter.value.device(), MemoryKind::kOptimizer)};
}

std::vector<StateTensor> state(const Parameter& parameter, const OptimizerOptions&) {
  if (!is_matrix(parameter)) return {zeros(parameter, "v", parameter.shape.numel())};
  return {zeros(parameter, "row", parameter.shape[0]),
          zeros(parameter, "column", parameter.shape[1])};
}

void step(const UpdateStep& s) {
  const auto number = static_cast<double>(s.number);
  for (const OptimizerSlot& slot : s.slots) {
    const Parameter& parameter = *slot.parameter;
    const bool matrix = is_matrix(parameter);
    s.kernels.adafactor({.weight = parameter.value.raw(),
                         .grad = parameter.value.slot()->grad.data<float>(),
                         .row = slot.kept("row").data<float>(),
                         .column = slot.kept("column").data<float>(),
                         .v = slot.kept("v").data<float>(),
                         .rows = matrix ? parameter.shape[0] : 1,
                         .columns = matrix ? parameter.shape[1] : parameter.shape.numel(),
                         .dtype = parameter.value.dtype(),
                         .number = slot.number,
                         .scale = s.scale,
                         .rounding = s.rounding,
                         .lr = static_cast<float>(s.lr),
                         .weight_decay = static_cast<float>(weight_decay_of(parameter, s.options)),
                         .rate = static_cast<float>(std::min(s.lr, 1 / std::sqrt(number))),
                         .fresh = static_cast<float>(std::pow(number, kDecay)),
                         .least_mean = static_cast<float>(kLeast),
                         .least_variance = static_cast<float>(kLeast),
                         .least_scale = static_cast<float>(kLeastScale),
                         .most_rms = static_cast<float>(kMostRms)});
  }
}

}  // namespace

const UpdateRule kAdafactor{state, step, /*cuda=*/true};

}  // namespace tenon
