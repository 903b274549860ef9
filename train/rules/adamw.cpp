// SPDX-License-Identifier: Apache-2.0
// AdamW (Loshchilov and Hutter, arXiv:1711.05101): both moments in fp32.
#include <cmath>

#include "train/rules/adamw.h"

namespace tenon {
namespace {

std::vector<StateTensor> state(const Parameter& parameter, const OptimizerOptions&) {
  return {zero_state(parameter, "m"), zero_state(parameter, "v")};
}

void step(const UpdateStep& s) { s.kernels.adamw(adamw_args(s)); }

}  // namespace

AdamWArgs adamw_args(const UpdateStep& s) {
  // The corrections are those of the betas that the kernel works with: 1 - 0.999f is off by 1e-5.
  const auto beta1 = static_cast<float>(s.options.beta1),
             beta2 = static_cast<float>(s.options.beta2);
  const auto correction = [&](float beta) {
    return static_cast<float>(
        -std::expm1(static_cast<double>(s.number) * std::log(static_cast<double>(beta))));
  };
  return {.list = s.list,
          .scale = s.scale,
          .rounding = s.rounding,
          .lr = static_cast<float>(s.lr),
          .beta1 = beta1,
          .beta2 = beta2,
          .eps = static_cast<float>(s.options.eps),
          .correction1 = correction(beta1),
          .correction2 = correction(beta2)};
}

const UpdateRule kAdamW{state, step, /*cuda=*/true};

}  // namespace tenon
