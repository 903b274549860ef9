// SPDX-License-Identifier: Apache-2.0
#include "core/counting.h"

#include <algorithm>

#include "core/backend.h"
#include "core/error.h"
#include "core/wrapped_table.h"

namespace tenon {
namespace {

thread_local Counting* open_count = nullptr;

// Notes a launch. The kernel behind is called: its chunks are not run.
struct Counted {
  template <class Args>
  static void run(const KernelTable&, Device, const char*, void (*entry)(const Args&),
                  const Args& args) {
    entry(args);
    if (open_count != nullptr) open_count->launched(work_of(args));
  }
};

}  // namespace

Counting::Counting(Rates rates) : rates_(rates), scope_(account_), scratch_(account_) {
  TENON_CHECK(open_count == nullptr, "[counting] a dry run of this thread is open");
  table_ = use_table(wrapped<Counted>(Device::kCPU, &kernels(Device::kCPU)));
  use_scratch(&scratch_);
  open_count = this;
}

Counting::~Counting() {
  open_count = nullptr;
  use_scratch(nullptr);
  use_table(table_);
}

void Counting::reserve(int slot, int64_t bytes, int workers) {
  while (static_cast<int>(workers_.size()) < workers) workers_.emplace_back(account_);
  for (Scratch& worker : workers_) worker.take(slot, bytes);
}

void Counting::launched(const LaunchWork& work) {
  if (rates_.operations > 0 && rates_.bytes > 0)
    seconds_ += std::max(work.operations / rates_.operations, work.bytes / rates_.bytes);
}

Counting* counting() { return open_count; }

}  // namespace tenon
