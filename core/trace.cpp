// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "core/backend.h"
#include "core/error.h"
#include "core/launch.h"

namespace tenon {
namespace {

const KernelTable* targets[2] = {};  // by Device

const KernelTable* target(Device device) { return targets[static_cast<size_t>(device)]; }

template <class Args>
void must_run(Device device, const char* kernel, void (*run)(const Args&), const Args& args) {
  const auto refused = [&](const char* why) {
    fail(Exit::kInternal, "[{}] {} {}: {}", target(device)->name, kernel, shape_text(args), why);
  };
  try {
    run(args);
  } catch (const Error&) {
    throw;
  } catch (const std::runtime_error& e) {  // kernel folders know no Error of a launch
    refused(e.what());
  }
  const char* failure = memory_of(device).failure();
  if (failure != nullptr) refused(failure);
}

template <class Args>
void timed(Device device, const char* kernel, void (*run)(const Args&), const Args& args) {
  const auto begin = std::chrono::steady_clock::now();
  must_run(device, kernel, run, args);
  memory_of(device).synchronize();
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - begin;
  std::fputs(fmt::format("{} {} {} {:.1f} us\n", kernel, target(device)->name, shape_text(args),
                         spent.count())
                 .c_str(),
             stderr);
}

template <Device device>
const KernelTable* tracing() {
  static const KernelTable wrapper = {.name = target(device)->name,
#define X(fn, Args) .fn = [](const Args& args) { timed(device, #fn, target(device)->fn, args); },
                                      TENON_KERNELS(X)
#undef X
  };
  return &wrapper;
}

}  // namespace

bool trace_wanted() {
  const char* value = std::getenv("TENON_TRACE");
  return value != nullptr && std::string(value) != "" && std::string(value) != "0";
}

const KernelTable* traced(Device device, const KernelTable* table) {
  targets[static_cast<size_t>(device)] = table;
  return device == Device::kCPU ? tracing<Device::kCPU>() : tracing<Device::kCUDA>();
}

const KernelTable* checked(const KernelTable* table) {
  targets[static_cast<size_t>(Device::kCUDA)] = table;
  static const KernelTable wrapper = {.name = table->name,
#define X(fn, Args) \
  .fn = [](const Args& args) { must_run(Device::kCUDA, #fn, target(Device::kCUDA)->fn, args); },
                                      TENON_KERNELS(X)
#undef X
  };
  return &wrapper;
}

}  // namespace tenon
