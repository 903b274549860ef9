// SPDX-License-Identifier: Apache-2.0
// The kernel tests' targets on a CUDA device: every table that it can run, with arrays that are
// aligned and arrays that are not. Where there is no device the tests are skipped with a message.
#include <fmt/core.h>

#include "core/error.h"
#include "tests/kernels_cuda/cuda_test.h"

namespace tenon::test {
namespace {

bool device_opened() {
  try {
    open_device("cuda");
    return true;
  } catch (const Error& error) {
    fmt::print("SKIPPED: {}\n", error.what());
    return false;
  }
}

std::vector<Target> find_targets() {
  std::vector<Target> found;
  if (!device_opened()) return found;
  const cuda::Backend& backend = cuda::backend();
  cuda::Card card;
  const char* why = "";
  if (!backend.describe(0, &card, &why)) fail(Exit::kEnvironment, "{}", why);
  for (int i = 0; i < backend.implementation_count; ++i) {
    const cuda::Implementation& built = backend.implementations[i];
    if (!built.runs_on(card.capability)) continue;
    const DeviceMemory* memory = &memory_of(Device::kCUDA);
    found.push_back({fmt::format("{}, aligned", built.table->name), built.table, {memory, 0}});
    found.push_back({fmt::format("{}, unaligned", built.table->name), built.table, {memory, 1}});
  }
  return found;
}

}  // namespace

const std::vector<Target>& targets() {
  static const std::vector<Target> list = find_targets();
  return list;
}

std::vector<const KernelTable*> device_tables() {
  std::vector<const KernelTable*> tables;
  for (const Target& target : targets()) {
    if (target.place.offset == 0) tables.push_back(target.table);
  }
  return tables;
}

const std::vector<int>& repeated_with() {
  static const std::vector<int> counts = {1};
  return counts;
}

}  // namespace tenon::test
