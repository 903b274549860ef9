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
#include "core/wrapped_table.h"

namespace tenon {
namespace {

// Turns a launch that failed into an Error that names kernel and shapes.
struct Checked {
  template <class Args>
  static void run(const KernelTable& table, Device device, const char* kernel,
                  void (*entry)(const Args&), const Args& args) {
    const auto refused = [&](const char* why) {
      fail(Exit::kInternal, "[{}] {} {}: {}", table.name, kernel, shape_text(args), why);
    };
    try {
      entry(args);
    } catch (const Error&) {
      throw;
    } catch (const std::runtime_error& e) {  // kernel folders know no Error of a launch
      refused(e.what());
    }
    const char* failure = memory_of(device).failure();
    if (failure != nullptr) refused(failure);
  }
};

// The same, and prints what the launch took.
struct Traced {
  template <class Args>
  static void run(const KernelTable& table, Device device, const char* kernel,
                  void (*entry)(const Args&), const Args& args) {
    const auto begin = std::chrono::steady_clock::now();
    Checked::run(table, device, kernel, entry, args);
    memory_of(device).synchronize();
    const std::chrono::duration<double, std::micro> spent =
        std::chrono::steady_clock::now() - begin;
    std::fputs(
        fmt::format("{} {} {} {:.1f} us\n", kernel, table.name, shape_text(args), spent.count())
            .c_str(),
        stderr);
  }
};

}  // namespace

bool trace_wanted() {
  const char* value = std::getenv("TENON_TRACE");
  return value != nullptr && std::string(value) != "" && std::string(value) != "0";
}

const KernelTable* traced(Device device, const KernelTable* table) {
  return wrapped<Traced>(device, table);
}

const KernelTable* checked(const KernelTable* table) {
  return wrapped<Checked>(Device::kCUDA, table);
}

}  // namespace tenon
