// SPDX-License-Identifier: Apache-2.0
// Collective calls as values: what each rank puts in, and what must come out by a serial sum in the
// order of ranks. Shared by the tests on threads and under mpirun. Mismatches are returned as text:
// ranks may be threads, and Catch's assertions are for one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tenon::test {

enum class Op { kAllReduce, kReduceScatter, kAllGather, kBroadcast };

struct Case {
  Op op = Op::kAllReduce;
  DType dtype = DType::kF32;
  Reduce reduce = Reduce::kSum;
  int64_t count = 0;  // of a rank's share: the smaller buffer where the two differ
  bool in_place = false;
  int root = 0;
  uint32_t seed = 1;
};
std::string text(const Case& c);
std::vector<Case> all_cases(int ranks, const std::vector<int64_t>& counts);

using Bytes = std::vector<unsigned char>;

// One operation under way with the memory that it needs.
struct Running {
  Case what;
  Bytes in, out;
  Work work;

  Running(const Case& c, Communicator& group);
  // Waits; "" or what is wrong.
  std::string finish(Communicator& group);
};

// Runs the cases one after the other; "" or the first thing that is wrong.
std::string check_cases(Communicator& world, const std::vector<Case>& cases);
// `steps` calls chosen by `seed` on the world and on two ways to split it, up to four under way,
// with random delays.
std::string check_random(Communicator& world, int steps, uint32_t seed);
// Messages between all pairs at once: small, large, several of one tag.
std::string check_messages(Communicator& world);
// Sums of doubles, integers that wrap, NaN, texts of different lengths.
std::string check_values(Communicator& world);
// Groups of colors with reversed order, groups within groups, groups of one.
std::string check_splits(Communicator& world);

}  // namespace tenon::test
