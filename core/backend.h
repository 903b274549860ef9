// SPDX-License-Identifier: Apache-2.0
// Which kernels run: one table for each device and instruction set, chosen once.
// TENON_CPU=scalar|avx2|avx512 overrides the choice; TENON_TRACE=1 prints a line for each launch
// (kernel, table, shape, dtype, microseconds).
#pragma once

#include <string>
#include <vector>

#include "core/kernel_table.h"

namespace tenon {

enum class Device : uint8_t { kCPU, kCUDA };

// The table that runs on this device. Throws Error(kEnvironment) when TENON_CPU names a table that
// is unknown or that this CPU cannot run.
const KernelTable& kernels(Device device = Device::kCPU);

// Every table that this machine can run, best first: tests walk over them.
std::vector<const KernelTable*> usable_tables();

// Makes `table` (or the default again, for null) the choice of the calling thread: for tests and
// benchmarks.
void use_table(const KernelTable* table);

namespace cpu {
// Implemented in kernels/cpu/select.cpp: the ordered list of the CPU's tables, best first.
struct Implementation {
  const KernelTable* table;
  bool (*usable)();
};
const std::vector<Implementation>& implementations();
}  // namespace cpu

}  // namespace tenon
