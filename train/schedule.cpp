// SPDX-License-Identifier: Apache-2.0
#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tenon {

double Schedule::rate(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup + 1);
  if (kind == ScheduleKind::kConstant) return peak;
  const auto left = static_cast<double>(std::max<int64_t>(1, total - warmup));
  const double progress = std::min(1.0, static_cast<double>(step - warmup) / left);
  if (kind == ScheduleKind::kLinear) return peak * (1 - progress);
  return peak * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

int64_t warmup_steps(double warmup, int64_t steps) {
  return static_cast<int64_t>(warmup < 1 ? std::round(warmup * static_cast<double>(steps))
                                         : warmup);
}

}  // namespace tenon
