// SPDX-License-Identifier: Apache-2.0
// The learning rate of each optimizer step: a linear warm-up, then cosine or linear decay to zero,
// or a constant.
#pragma once

#include <cstdint>
#include <string>

namespace tenon {

struct Schedule {
  std::string kind = "cosine";  // cosine, linear, constant
  double peak = 0;
  int64_t warmup = 0;  // steps until the peak is reached
  int64_t total = 1;   // steps of the run

  // Of step 0, 1, ...: rising by peak / (warmup + 1) a step, so that no step is spent at rate 0;
  // the peak is the rate of step `warmup`, and the decay would reach zero at step `total`.
  double rate(int64_t step) const;
};

}  // namespace tenon
