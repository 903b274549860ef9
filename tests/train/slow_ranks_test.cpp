// SPDX-License-Identifier: Apache-2.0
#include "train/slow_ranks.h"

#include <catch2/catch.hpp>

using namespace tenon;

namespace {

const std::vector<std::string> kNames = {"rank 0/3 a", "rank 1/3 b", "rank 2/3 c"};

// The lines about `steps` steps in which every rank does the same each time.
std::vector<std::string> lines_of(SlowRanks& ranks, int steps, const std::vector<RankStep>& each) {
  std::vector<std::string> all;
  for (int step = 0; step < steps; ++step) {
    for (const std::string& line : ranks.step(each)) all.push_back(line);
  }
  return all;
}

TEST_CASE("a rank that computes 1.6 times as long is named within ten steps, and once") {
  SlowRanks ranks(kNames);
  const std::vector<RankStep> slow = {{0.1, 4}, {0.16, 4}, {0.1, 4}}, even(3, {0.1, 4});
  const std::vector<std::string> lines = lines_of(ranks, 10, slow);
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Catch::StartsWith("rank 1/3 b is slow: ") && Catch::Contains("0.160 s") &&
                           Catch::Contains("0.100 s"));
  CHECK(lines_of(ranks, 30, slow).empty());
  CHECK(lines_of(ranks, 10, even).empty());
  CHECK(lines_of(ranks, 10, slow).size() == 1);  // slow again
}

TEST_CASE("of two ranks the slower one is named") {
  SlowRanks ranks({"rank 0/2 a", "rank 1/2 b"});
  const std::vector<std::string> lines = lines_of(ranks, 10, {{0.2, 4}, {0.1, 4}});
  REQUIRE(lines.size() == 1);
  CHECK_THAT(lines[0], Catch::StartsWith("rank 0/2 a is slow"));
}

TEST_CASE("nobody is slow for a bit more time, for more rows, or for what is no matter") {
  SlowRanks ranks(kNames);
  CHECK(lines_of(ranks, 10, {{0.1, 4}, {0.14, 4}, {0.1, 4}}).empty());
  CHECK(lines_of(ranks, 10, {{0.1, 1}, {0.2, 2}, {0.1, 1}}).empty());
  CHECK(lines_of(ranks, 10, {{0.1, 2}, {0.1, 2}, {0.08, 1}}).empty());  // dearer a row
  CHECK(lines_of(ranks, 10, {{0.0001, 4}, {0.0005, 4}, {0.0001, 4}}).empty());
  CHECK(lines_of(ranks, 10, {{0.001, 0}, {0.001, 0}, {0.1, 1}}).empty());  // most have no rows
  SlowRanks alone({"rank 0/1"});
  CHECK(lines_of(alone, 30, {{1, 4}}).empty());
}

TEST_CASE("steps are added up: one hiccup is not slowness") {
  SlowRanks ranks(kNames);
  const std::vector<RankStep> even(3, {0.1, 4});
  CHECK(lines_of(ranks, 9, even).empty());
  CHECK(lines_of(ranks, 1, {{0.1, 4}, {0.5, 4}, {0.1, 4}}).empty());
  CHECK(lines_of(ranks, 9, even).empty());
  CHECK(lines_of(ranks, 1, {{0.1, 4}, {0.7, 4}, {0.1, 4}}).size() == 1);
}

}  // namespace
