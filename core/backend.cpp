// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/trace.h"

namespace tenon {
namespace {

const KernelTable* choose_cpu() {
  const char* wanted = std::getenv("TENON_CPU");
  std::string known;
  for (const cpu::Implementation& implementation : cpu::implementations()) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", implementation.table->name);
    if (wanted != nullptr && *wanted != '\0' && std::string(wanted) != implementation.table->name)
      continue;
    if (implementation.usable()) return implementation.table;
    if (wanted != nullptr && *wanted != '\0') {
      fail(Exit::kEnvironment, "TENON_CPU={}: this CPU does not have the instructions", wanted);
    }
  }
  fail(Exit::kEnvironment, "TENON_CPU={}: expected one of {}",
       printable(wanted == nullptr ? "" : wanted), known);
}

const KernelTable& default_table() {
  static const KernelTable* table = trace_wanted() ? traced(choose_cpu()) : choose_cpu();
  return *table;
}

thread_local const KernelTable* override_table = nullptr;

}  // namespace

const KernelTable& kernels(Device device) {
  if (device != Device::kCPU)
    fail(Exit::kEnvironment, "this build has no CUDA backend (expected --device cpu)");
  return override_table != nullptr ? *override_table : default_table();
}

std::vector<const KernelTable*> usable_tables() {
  std::vector<const KernelTable*> tables;
  for (const cpu::Implementation& implementation : cpu::implementations()) {
    if (implementation.usable()) tables.push_back(implementation.table);
  }
  return tables;
}

void use_table(const KernelTable* table) { override_table = table; }

}  // namespace tenon
