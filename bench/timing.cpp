// SPDX-License-Identifier: Apache-2.0
#include "bench/timing.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/backend.h"

namespace tenon::bench {
namespace {

constexpr double kShort = 5e-3;     // seconds; waking threads does not show in longer runs
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
  const size_t count = contenders.size();
  std::vector<std::vector<double>> times(count);
  std::vector<double> first(count);
  for (size_t i = 0; i < count; ++i) {
    contenders[i].run();
    first[i] = time_group(device, 1, contenders[i].run);
    rest(contenders[i].quiet);
  }
  double spent = 0;
  for (int round = 0; round < patience.runs || spent < patience.seconds; ++round) {
    for (size_t i = 0; i < count; ++i) {
      const Contender& each = contenders[i];
      if (first[i] < kShort) each.run();
      const int group = group_of(device, first[i]);
      times[i].push_back(time_group(device, group, each.run));
      spent += times[i].back() * group;
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
