// SPDX-License-Identifier: Apache-2.0
// Which kernels run: one table for each device and instruction set, chosen once, and the memory
// that goes with a device.
// TENON_CPU=scalar|avx2|avx512|avx512_vnni|avx512_bf16 overrides the CPU's choice; TENON_TRACE=1 prints a line for each
// launch (kernel, table, shape, dtype, microseconds).
#pragma once

#include <string>
#include <vector>

#include "core/cuda_backend.h"
#include "core/device.h"
#include "core/kernel_table.h"

namespace tenon {

// The table that runs on this device. Throws Error(kEnvironment) when TENON_CPU names a table that
// is unknown or that this CPU cannot run. Requires, for kCUDA: a card was opened.
const KernelTable& kernels(Device device);

// The memory of this device. Requires, for kCUDA: a card was opened.
const DeviceMemory& memory_of(Device device);

// The device that `wanted` names: "cpu", "cuda" (the card number `local_rank` modulo their number),
// "cuda:N", or "auto": a card where this program and machine have a usable one, else the CPU. A card
// is opened for the rest of the process. Throws Error(kEnvironment) when it cannot be had: not built
// in, no driver, no such card, too old.
Device open_device(const std::string& wanted, int local_rank = 0);

// "cpu (avx512 kernels)", "cuda:0, NVIDIA A100-SXM4-40GB (sm80 kernels)".
std::string device_text(Device device);

// The dtype that a flag names: fp32, bf16, fp16 (also float32, bfloat16, float16). Throws
// Error(kInput).
DType parse_dtype(const std::string& text, const std::string& flag);

// Throws Error(kEnvironment) where the device cannot compute in this dtype: bf16 on cards older than
// compute capability 8.0.
void require_dtype(Device device, DType dtype);

// Every table that this CPU can run, best first: tests walk over them.
std::vector<const KernelTable*> usable_tables();

// Makes `table` (or the default again, for null) the choice of the calling thread for the CPU, or
// for the CUDA device: for tests and benchmarks. Returns the choice before, or null.
const KernelTable* use_table(const KernelTable* table);
void use_cuda_table(const KernelTable* table);

namespace cpu {
// Implemented in kernels/cpu/select.cpp: the ordered list of the CPU's tables, best first.
struct Implementation {
  const KernelTable* table;
  bool (*usable)();              // whether this CPU has the instructions
  bool (*worth_it)() = nullptr;  // whether they are fast, where that has to be measured
};
const std::vector<Implementation>& implementations();
}  // namespace cpu

}  // namespace tenon
