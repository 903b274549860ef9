// SPDX-License-Identifier: Apache-2.0
// A device as the engine sees it: memory that kernels reach, and copies to and from it. What runs on
// a device runs in the order in which it was asked for (one stream a device); the host waits only in
// `download` and `synchronize`. Plain types: kernel folders include this header.
#pragma once

#include <cstdint>

namespace tenon {

// A process uses one CUDA device at most, chosen at its start.
enum class Device : uint8_t { kCPU, kCUDA };

constexpr const char* name_of(Device device) { return device == Device::kCPU ? "cpu" : "cuda"; }

// A device's memory. On the CPU copies are memcpy, and blocks come from an arena (core/storage.cpp)
// instead of allocate and release, which are null.
struct DeviceMemory {
  void* (*allocate)(int64_t bytes);  // 64-byte aligned or better; null when there is none left
  void (*release)(void* block, int64_t bytes);
  void (*upload)(void* to, const void* from,
                 int64_t bytes);  // from the host; `from` is free again on return
  void (*download)(void* to, const void* from, int64_t bytes);  // to the host; complete on return
  void (*copy)(void* to, const void* from, int64_t bytes);      // within the device; no overlap
  void (*zero)(void* to, int64_t bytes);
  void (*synchronize)();
  // What went wrong with the work asked for since the last call, as far as is known without
  // waiting; null when nothing did.
  const char* (*failure)();
};

// Scratch memory for the kernels of the CUDA device, 256-byte aligned, counted as workspace, kept
// between calls and grown when `bytes` exceeds what is there; contents are undefined. Like all work
// of the device it is ordered: a kernel that asks again with the same slot (0..7) may overwrite what
// an earlier kernel used. Throws Error(kMemory).
void* device_scratch(int slot, int64_t bytes);

}  // namespace tenon
