// SPDX-License-Identifier: Apache-2.0
// The learning rate of each optimizer step: a linear warm-up, then cosine or linear decay to zero,
// or a constant.
#pragma once

#include <cstdint>

namespace tenon {

enum class ScheduleKind : uint8_t { kCosine, kLinear, kConstant };

struct Schedule {
  ScheduleKind kind = ScheduleKind::kCosine;
  double peak = 0;
  int64_t warmup = 0;  // steps until the peak is reached
  int64_t total = 1;   // steps of the run

  // Of step 0, 1, ...: rising by peak / (warmup + 1) a step, so that no step is spent at rate 0;
  // the peak is the rate of step `warmup`, and the decay would reach zero at step `total`.
  double rate(int64_t step) const;
};

// The steps of a warm-up as the option gives it: below 1 a share of all steps, rounded to the nearest
// (halves up); else steps.
int64_t warmup_steps(double warmup, int64_t steps);

}  // namespace tenon
