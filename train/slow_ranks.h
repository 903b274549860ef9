// SPDX-License-Identifier: Apache-2.0
// Names a rank that holds the others up, while the run goes on: one whose own computing takes much
// longer than that of the rank in the middle, for no more rows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tenon {

// What a rank did in a step: seconds without those in which it waited for others, and rows.
struct RankStep {
  double seconds = 0;
  int64_t rows = 0;
};

class SlowRanks {
 public:
  // `names`: what ranks are called, by rank.
  explicit SlowRanks(std::vector<std::string> names);

  // Takes in a step of all ranks, by rank. After every tenth: the lines about ranks that have become
  // slow since the last ten.
  std::vector<std::string> step(std::span<const RankStep> ranks);

 private:
  std::vector<std::string> names_;
  std::vector<RankStep> sums_;
  std::vector<char> slow_;  // in the last ten steps
  int64_t steps_ = 0;
};

}  // namespace tenon
