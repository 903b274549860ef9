// SPDX-License-Identifier: Apache-2.0
#include "core/profile.h"

#include <chrono>

#include "core/backend.h"

namespace tenon {
namespace {

thread_local Profile* current = nullptr;
const KernelTable* targets[2] = {};  // by Device

const KernelTable* target(Device device) { return targets[static_cast<size_t>(device)]; }

template <class Args>
void noted(Device device, const char* kernel, void (*run)(const Args&), const Args& args) {
  const auto begin = std::chrono::steady_clock::now();
  run(args);
  memory_of(device).synchronize();
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  if (current != nullptr) current->add(kernel, shape_text(args), spent.count(), work_of(args));
}

template <Device device>
const KernelTable* noting() {
  static const KernelTable wrapper = {.name = target(device)->name,
#define X(fn, Args) .fn = [](const Args& args) { noted(device, #fn, target(device)->fn, args); },
                                      TENON_KERNELS(X)
#undef X
  };
  return &wrapper;
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

void Profile::add(const char* kernel, std::string shape, double seconds, const Work& work) {
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
  const bool cpu = device == Device::kCPU;
  targets[static_cast<size_t>(device)] = &kernels(device);
  cpu ? use_table(noting<Device::kCPU>()) : use_cuda_table(noting<Device::kCUDA>());
  current = &profile;
}

Profiling::~Profiling() {
  current = nullptr;
  device_ == Device::kCPU ? use_table(nullptr) : use_cuda_table(nullptr);
}

}  // namespace tenon
