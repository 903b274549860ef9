// SPDX-License-Identifier: Apache-2.0
#include "bench/timing.h"

#include <algorithm>
#include <chrono>

#include "core/backend.h"

namespace tenon::bench {
namespace {

int group_of(Device device) { return device == Device::kCPU ? 1 : 10; }

}  // namespace

double time_once(Device device, const std::function<void()>& run) {
  const int group = group_of(device);
  memory_of(device).synchronize();
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < group; ++i) run();
  memory_of(device).synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / group;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double seconds_of(Device device, int runs, double seconds, const std::function<void()>& run) {
  std::vector<double> times;
  for (double spent = 0; static_cast<int>(times.size()) < runs || spent < seconds;) {
    times.push_back(time_once(device, run));
    spent += times.back() * group_of(device);
  }
  return median(std::move(times));
}

}  // namespace tenon::bench
