// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "core/backend.h"
#include "core/error.h"

namespace tenon {
namespace {

const KernelTable* targets[2] = {};  // by Device

const KernelTable* target(Device device) { return targets[static_cast<size_t>(device)]; }

std::string shape(const MatmulArgs& a) {
  return fmt::format("m={} n={} k={}+{} {}{} {}x{}->{}", a.m, a.n, a.k, a.k2,
                     a.a.transposed ? 'T' : 'N', a.b.transposed ? 'T' : 'N', name_of(a.a.dtype),
                     name_of(a.b.dtype), name_of(a.c_dtype));
}
std::string shape(const AttentionArgs& a) {
  return fmt::format("batch={} queries={} keys={} heads={}/{} size={} {}", a.batch, a.queries,
                     a.keys, a.heads, a.kv_heads, a.head_size, name_of(a.dtype));
}
std::string shape(const AttentionGradArgs& a) { return shape(a.forward); }
std::string shape(const CrossEntropyArgs& a) {
  return fmt::format("rows={} vocabulary={} fp32", a.rows, a.vocabulary);
}
std::string shape(const CastArgs& a) {
  return fmt::format("count={} {}->{}", a.count, name_of(a.from), name_of(a.to));
}
std::string shape(const SampleArgs& a) { return fmt::format("vocabulary={} fp32", a.vocabulary); }
std::string shape(const auto& a) {
  std::string text;
  if constexpr (requires { a.rows; }) text = fmt::format("rows={} channels={}", a.rows, a.channels);
  if constexpr (requires { a.count; }) text = fmt::format("count={}", a.count);
  if constexpr (requires { a.list; })
    text = fmt::format("tensors={} pieces={}", a.list.count, a.list.pieces);
  if constexpr (requires { a.dtype; }) {
    text += fmt::format(" {}", name_of(a.dtype));
  } else {
    text += " fp32";
  }
  return text;
}

template <class Args>
void must_run(Device device, const char* kernel, void (*run)(const Args&), const Args& args) {
  const auto refused = [&](const char* why) {
    fail(Exit::kInternal, "[{}] {} {}: {}", target(device)->name, kernel, shape(args), why);
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
  std::fputs(
      fmt::format("{} {} {} {:.1f} us\n", kernel, target(device)->name, shape(args), spent.count())
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
