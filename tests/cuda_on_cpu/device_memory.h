// SPDX-License-Identifier: Apache-2.0
// Device and pinned memory. Device blocks of all devices lie in one reserved region that host code
// cannot touch: its pages are open only while work of the device runs. Addresses are never used
// twice, so a pointer into a freed block is always recognised. Callers hold the runtime's lock.
#pragma once

#include <cstdint>
#include <string>

#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {

struct DeviceBlock {
  uintptr_t begin = 0;
  int64_t bytes = 0;
  int device = 0;
  bool freed = false;
};

// Null when the device has less than `bytes` left.
void* allocate_device(int64_t bytes, int device);
bool free_device(void* block);
int64_t device_bytes_used(int device);

void* allocate_pinned(int64_t bytes);
bool free_pinned(void* block);
bool is_pinned(const void* pointer);

// The block that holds `address`, live or freed; null when none ever did.
const DeviceBlock* find_device_block(uintptr_t address);
bool in_device_region(uintptr_t address);

// Empty when [address, address + bytes) lies in one live block of `device`; else what is wrong.
std::string device_range_problem(const void* address, int64_t bytes, int device);

// While one lives, the region is open.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
};

}  // namespace tenon::cuda_on_cpu
