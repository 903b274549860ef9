// SPDX-License-Identifier: Apache-2.0
#include "core/trace.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace tenon {
namespace {

const KernelTable* target = nullptr;

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
std::string shape(const auto& a) {
  std::string text;
  if constexpr (requires { a.rows; }) text = fmt::format("rows={} channels={}", a.rows, a.channels);
  if constexpr (requires { a.count; }) text = fmt::format("count={}", a.count);
  if constexpr (requires { a.dtype; }) {
    text += fmt::format(" {}", name_of(a.dtype));
  } else {
    text += " fp32";
  }
  return text;
}

template <class Args>
void timed(const char* kernel, void (*run)(const Args&), const Args& args) {
  const auto begin = std::chrono::steady_clock::now();
  run(args);
  const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - begin;
  std::fputs(
      fmt::format("{} {} {} {:.1f} us\n", kernel, target->name, shape(args), spent.count()).c_str(),
      stderr);
}

}  // namespace

bool trace_wanted() {
  const char* value = std::getenv("TENON_TRACE");
  return value != nullptr && std::string(value) != "" && std::string(value) != "0";
}

const KernelTable* traced(const KernelTable* table) {
  target = table;
  static const KernelTable wrapper = {.name = table->name,
#define X(fn, Args) .fn = [](const Args& args) { timed(#fn, target->fn, args); },
                                      TENON_KERNELS(X)
#undef X
  };
  return &wrapper;
}

}  // namespace tenon
