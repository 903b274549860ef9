// SPDX-License-Identifier: Apache-2.0
// The kernel tests' targets on the CPU: every table that it can run.
#include "tests/kernels/kernel_test.h"

namespace tenon::test {

const std::vector<Target>& targets() {
  static const std::vector<Target> list = [] {
    std::vector<Target> found;
    for (const KernelTable* table : usable_tables()) found.push_back({table->name, table, {}});
    return found;
  }();
  return list;
}

const std::vector<int>& repeated_with() {
  static const std::vector<int> counts = {2, 3};
  return counts;
}

}  // namespace tenon::test
