// SPDX-License-Identifier: Apache-2.0
#include "train/slow_ranks.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace tenon {

SlowRanks::SlowRanks(std::vector<std::string> names)
    : names_(std::move(names)), sums_(names_.size()), slow_(names_.size(), 0) {}

std::vector<std::string> SlowRanks::step(std::span<const RankStep> ranks) {
  constexpr int64_t kSteps = 10;
  constexpr double kSlow = 1.5, kNoise = 0.001;  // seconds a step that are no matter
  for (size_t r = 0; r < sums_.size(); ++r) {
    sums_[r].seconds += ranks[r].seconds;
    sums_[r].rows += ranks[r].rows;
  }
  if (++steps_ % kSteps != 0) return {};

  // The rank in the middle; of two, the faster. A rank with more rows may take longer by as much; one
  // with fewer is granted all of it, as part of a step costs the same whatever its rows.
  std::vector<RankStep> sorted = std::exchange(sums_, std::vector<RankStep>(sums_.size()));
  const std::vector<RankStep> sums = sorted;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>((sorted.size() - 1) / 2);
  std::nth_element(sorted.begin(), middle, sorted.end(),
                   [](const RankStep& a, const RankStep& b) { return a.seconds < b.seconds; });
  std::vector<std::string> lines;
  if (middle->rows == 0) return lines;  // most have nothing to do: no measure for the others
  for (size_t r = 0; r < sums.size(); ++r) {
    const double share = static_cast<double>(sums[r].rows) / static_cast<double>(middle->rows);
    const double expected = middle->seconds * std::max(1.0, share);
    const bool slow = sums[r].seconds > kSlow * expected &&
                      sums[r].seconds - expected > kNoise * static_cast<double>(kSteps);
    if (slow && !slow_[r]) {
      lines.push_back(
          fmt::format("{} is slow: it computed for {:.3f} s a step in the last {} steps, the rank "
                      "in the middle "
                      "for {:.3f} s; the others wait for it",
                      names_[r], sums[r].seconds / kSteps, kSteps, middle->seconds / kSteps));
    }
    slow_[r] = slow;
  }
  return lines;
}

}  // namespace tenon
