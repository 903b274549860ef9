// SPDX-License-Identifier: Apache-2.0
// How long something takes on a device, by itself or in turn with others.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/device.h"

namespace tenon::bench {

// Seconds of one run: the median of several, and their quartiles.
struct Spread {
  double median = 0, low = 0, high = 0;
  int runs = 0;
};
Spread spread_of(std::vector<double> seconds);  // zeros of none

// When there have been enough runs: this many, and together this long.
struct Patience {
  int runs = 7;
  double seconds = 0.3;
};

// Something that is timed. `quiet` is for how many seconds its threads go on spinning when it is
// done, which would take the cores from the next one.
struct Contender {
  std::string name;
  std::function<void()> run;
  double quiet = 0;
};

// Times the contenders in turn, each for a third of its runs and time at once, after some that are
// not timed.
std::vector<Spread> race(Device device, const std::vector<Contender>& contenders,
                         const Patience& patience);

// The same for one alone.
Spread time_alone(Device device, const Patience& patience, const std::function<void()>& run);

}  // namespace tenon::bench
