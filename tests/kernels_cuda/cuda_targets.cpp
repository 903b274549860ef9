// SPDX-License-Identifier: Apache-2.0
// The kernel tests' targets on a CUDA device: every table that it can run, with arrays that are
// aligned and arrays that are not. Where there is no device the tests are skipped with a message.
#include "tests/kernels/kernel_test.h"
#include "tests/kernels_cuda/cards.h"

namespace tenon::test {

const std::vector<Target>& targets() {
  static const std::vector<Target> list = [] {
    std::vector<Target> found;
    for (const cuda::Implementation& built : card_implementations()) {
      const DeviceMemory* memory = &memory_of(Device::kCUDA);
      found.push_back({fmt::format("{}, aligned", built.table->name), built.table, {memory, 0}});
      found.push_back({fmt::format("{}, unaligned", built.table->name), built.table, {memory, 1}});
    }
    return found;
  }();
  return list;
}

const std::vector<int>& repeated_with() {
  static const std::vector<int> counts = {1};
  return counts;
}

}  // namespace tenon::test
