// SPDX-License-Identifier: Apache-2.0
// A Storage owns a run of bytes on one device, 64-byte aligned, charged to a memory account by kind.
// Freed bytes go back to a cache of their device, so that a training step after the first one asks
// the system for nothing; on the host the cache never makes the process larger than its largest live
// set. Work on a device is ordered, so bytes may be given back and taken again while kernels that use
// them are still to run. A borrowed Storage looks at bytes that something else keeps alive, such as a
// mapped file.
//
// Safe to share between threads; the bytes themselves are the callers' business.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device.h"
#include "core/memory.h"

namespace tenon {

class Arena;

class Storage {
 public:
  // Contents are undefined. Requires: bytes >= 0. Throws Error(kMemory), saying what was asked and
  // what is held.
  static std::shared_ptr<Storage> allocate(int64_t bytes, MemoryKind kind,
                                           Device device = Device::kCPU);

  // Looks at host memory `data` of a mapped file, which `owner` keeps alive: only FileMemory's may be
  // written.
  static std::shared_ptr<Storage> borrow(const void* data, int64_t bytes,
                                         std::shared_ptr<const void> owner);

  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool borrowed() const { return owner_ != nullptr; }

 private:
  Storage() = default;

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
  int64_t charged_ = 0;
  MemoryKind kind_ = MemoryKind::kActivations;
  Device device_ = Device::kCPU;
  MemoryAccount* account_ = nullptr;
  Arena* arena_ = nullptr;  // of the host
  std::shared_ptr<const void> owner_;
};

// How often the system was asked for memory since the process began, because what the device's cache
// held did not serve: a training step after the first one adds nothing.
int64_t blocks_asked_for(Device device = Device::kCPU);

// While one lives, what Storage and scratch hold of the host's memory stays within `bytes`; 0: no
// limit. One a process at a time.
class MemoryLimit {
 public:
  explicit MemoryLimit(int64_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;
};
// Throws Error(kMemory) where so many bytes more would exceed it. A dry run (core/counting.h) has no
// limit.
void require_within_limit(int64_t bytes, MemoryKind kind);

// Gives every cached byte of every device back to the system.
void release_cached_memory();

}  // namespace tenon
