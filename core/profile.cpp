// SPDX-License-Identifier: Apache-2.0
#include "core/profile.h"

#include <chrono>

#include "core/backend.h"
#include "core/wrapped_table.h"

namespace tenon {
namespace {

thread_local Profile* current = nullptr;
// Notes what a launch took in the thread's profile.
struct Noted {
  template <class Args>
  static void run(const KernelTable&, Device device, const char* kernel, void (*entry)(const Args&),
                  const Args& args) {
    const auto begin = std::chrono::steady_clock::now();
    entry(args);
    memory_of(device).synchronize();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (current != nullptr) current->add(kernel, shape_text(args), spent.count(), work_of(args));
  }
};

void use(Device device, const KernelTable* table) {
  if (device == Device::kCPU) {
    use_table(table);
  } else {
    use_cuda_table(table);
  }
}

}  // namespace

void Profile::enter(const char* phase) {
  claim("");
  phase_ = phase;
  op_.clear();
}

void Profile::op_recorded(const char* op) { claim(op); }

void Profile::op_begins(const char* op) {
  claim("");
  op_ = op;
}

void Profile::add(const char* kernel, std::string shape, double seconds, const LaunchWork& work) {
  seconds_ += seconds;
  const Row launch{phase_, op_, kernel, std::move(shape), 1, seconds, work};
  if (op_.empty()) {
    unclaimed_.push_back(launch);
  } else {
    file(op_, launch);
  }
}

std::vector<Profile::Row> Profile::rows() {
  claim("");
  return rows_;
}

void Profile::file(const std::string& op, const Row& launch) {
  const auto [found, fresh] =
      place_.try_emplace({launch.phase, op, launch.kernel, launch.shape}, rows_.size());
  if (fresh) rows_.push_back({launch.phase, op, launch.kernel, launch.shape});
  Row& row = rows_[found->second];
  row.calls += launch.calls;
  row.seconds += launch.seconds;
  row.work += launch.work;
}

void Profile::claim(const std::string& op) {
  for (const Row& launch : unclaimed_) file(op, launch);
  unclaimed_.clear();
}

Profile* current_profile() { return current; }

Profiling::Profiling(Profile& profile, Device device) : device_(device) {
  TENON_CHECK(current == nullptr, "[profile] a profile of this thread is open");
  use(device, wrapped<Noted>(device, &kernels(device)));
  current = &profile;
}

Profiling::~Profiling() {
  current = nullptr;
  use(device_, nullptr);
}

}  // namespace tenon
