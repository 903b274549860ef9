// SPDX-License-Identifier: Apache-2.0
#include "bench/timing.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/backend.h"

namespace tenon::bench {
namespace {

// A turn begins with so many seconds of untimed runs: when threads of another contender slept or spun
// on the cores before, the scheduler takes some milliseconds to spread those that are woken now (on 2
// cores a product of 4.4 ms took 8.9 ms at first, both threads on one core).
constexpr double kWarm = 0.02;
constexpr int kTurns = 3;
// The first turn also has so many: a library may try its ways in its first runs, and matmul does.
constexpr int kFirstRuns = 7;
constexpr double kMeasured = 1e-4;  // runs shorter than this are timed several at a time

// Seconds of a run in a group of `runs`. On a card they are queued, and waited for together.
double time_group(Device device, int runs, const std::function<void()>& run) {
  memory_of(device).synchronize();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < runs; ++i) run();
  memory_of(device).synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / runs;
}

int group_of(Device device, double seconds) {
  const int least = device == Device::kCPU ? 1 : 10;
  return std::clamp(static_cast<int>(kMeasured / std::max(seconds, 1e-9)), least, 1000);
}

void rest(double seconds) {
  if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

}  // namespace

Spread spread_of(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const size_t last = seconds.size() - 1;
  return {seconds[(last + 1) / 2], seconds[last / 4], seconds[last - last / 4],
          static_cast<int>(seconds.size())};
}

std::vector<Spread> race(Device device, const std::vector<Contender>& contenders,
                         const Patience& patience) {
  std::vector<std::vector<double>> times(contenders.size());
  const int runs = (patience.runs + kTurns - 1) / kTurns;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      const Contender& each = contenders[i];
      double last = 0, warm = 0;
      for (int run = 0; run < (turn == 0 ? kFirstRuns : 1) || warm < kWarm; ++run) {
        last = time_group(device, 1, each.run);
        warm += last;
      }
      const int group = group_of(device, last);
      double spent = 0;
      for (int run = 0; run < runs || spent < patience.seconds / kTurns; ++run) {
        times[i].push_back(time_group(device, group, each.run));
        spent += times[i].back() * group;
      }
      rest(each.quiet);
    }
  }
  std::vector<Spread> spreads;
  for (std::vector<double>& each : times) spreads.push_back(spread_of(std::move(each)));
  return spreads;
}

Spread time_alone(Device device, const Patience& patience, const std::function<void()>& run) {
  run();
  const int group = group_of(device, time_group(device, 1, run));
  std::vector<double> times;
  for (double spent = 0;
       static_cast<int>(times.size()) < patience.runs || spent < patience.seconds;) {
    times.push_back(time_group(device, group, run));
    spent += times.back() * group;
  }
  return spread_of(std::move(times));
}

}  // namespace tenon::bench
