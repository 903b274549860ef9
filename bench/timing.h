// SPDX-License-Identifier: Apache-2.0
// How long something takes on a device.
#pragma once

#include <functional>
#include <vector>

#include "core/device.h"

namespace tenon::bench {

// Seconds of one run. On a card several runs are queued, and waited for together.
double time_once(Device device, const std::function<void()>& run);

double median(std::vector<double> values);  // 0 of none

// The median of at least `runs` runs, and as many as fill `seconds`.
double seconds_of(Device device, int runs, double seconds, const std::function<void()>& run);

}  // namespace tenon::bench
