// SPDX-License-Identifier: Apache-2.0
// What the kernel tests share: every target, every float dtype, awkward sizes, and runs that must
// not depend on threads. The tests are linked into a program for the CPU's tables (cpu_targets.cpp)
// and into programs for the CUDA ones (tests/kernels_cuda).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/parallel_for.h"
#include "tests/support/compare.h"
#include "tests/support/reference.h"

namespace tenon::test {

inline constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
// One, around the lanes of each table, a prime, and more than two pieces of work.
inline constexpr int64_t kCounts[] = {1, 7, 8, 9, 15, 16, 17, 131, 2 * 4096 + 77};

// What kernels are tested on: a table, and where the arrays lie.
struct Target {
  std::string name;
  const KernelTable* table;
  Placement place;

  // The table; arrays that are made from now on lie where it wants them.
  const KernelTable* enter() const {
    placement() = place;
    return table;
  }
};
const std::vector<Target>& targets();
// With how many threads a run is repeated, after the run with one.
const std::vector<int>& repeated_with();

inline double u32() { return unit_roundoff(DType::kF32); }

// run() makes fresh outputs, launches and returns them. They must be the same bytes each time, with
// more threads too, within their guards. Returns those of one thread.
template <class Run>
std::vector<GuardedArray> run_on_threads(const Run& run) {
  const int threads = thread_count();
  set_thread_count(1);
  std::vector<GuardedArray> first = run();
  for (const GuardedArray& array : first) CHECK(array.guards_intact());
  for (int count : repeated_with()) {
    set_thread_count(count);
    const std::vector<GuardedArray> again = run();
    for (size_t i = 0; i < first.size(); ++i) {
      const bool same_bytes = again[i].bytes() == first[i].bytes();
      INFO("output " << i << " with " << count << " threads");
      CHECK(same_bytes);
    }
  }
  set_thread_count(threads);
  return first;
}

inline float* floats(GuardedArray& array) { return static_cast<float*>(array.data()); }
inline const float* floats(const GuardedArray& array) {
  return static_cast<const float*>(array.data());
}

inline std::vector<double> magnitudes(std::vector<double> values) {
  for (double& v : values) v = std::fabs(v);
  return values;
}

}  // namespace tenon::test
