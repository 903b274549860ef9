// SPDX-License-Identifier: Apache-2.0
// Memory accounting by kind, now and peak. Every Storage is charged to the account of the thread
// that made it, so that ranks which are threads of one process are counted apart.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/device.h"

namespace tenon {

// kMapped is what lies in mapped files, which the system can read again: it is no part of sums.
enum class MemoryKind : uint8_t {
  kWeights,
  kGradients,
  kOptimizer,
  kActivations,
  kWorkspace,
  kMapped
};
inline constexpr int kMemoryKinds = 6;
const char* name_of(MemoryKind kind);  // "weights", "gradients", ...

class MemoryAccount {
 public:
  void charge(MemoryKind kind, int64_t bytes);
  void release(MemoryKind kind, int64_t bytes);
  int64_t now(MemoryKind kind) const { return now_[index(kind)]; }
  int64_t peak(MemoryKind kind) const { return peak_[index(kind)]; }
  int64_t now() const { return total_; }        // all kinds but kMapped
  int64_t peak() const { return total_peak_; }  // of the sum, not the sum of peaks
  // What there was of this kind when the sum was at its peak. Exact where one thread charges.
  int64_t at_peak(MemoryKind kind) const { return at_peak_[index(kind)]; }
  void reset_peaks();

 private:
  static size_t index(MemoryKind kind) { return static_cast<size_t>(kind); }
  std::array<std::atomic<int64_t>, kMemoryKinds> now_{}, peak_{}, at_peak_{};
  std::atomic<int64_t> total_{0}, total_peak_{0};
};

// The process's account of the host's memory, and the calling thread's: the same unless a
// MemoryScope is open. A card's memory has one account.
MemoryAccount& memory_process();
MemoryAccount& memory(Device device = Device::kCPU);

// Charges what this thread allocates on the host to `account` while the scope lives. The account must outlive
// what was charged.
class MemoryScope {
 public:
  explicit MemoryScope(MemoryAccount& account);
  ~MemoryScope();
  MemoryScope(const MemoryScope&) = delete;
  MemoryScope& operator=(const MemoryScope&) = delete;

 private:
  MemoryAccount* previous_;
};

// Resident memory of the process now and at its highest, in bytes (VmRSS and VmHWM of
// /proc/self/status).
int64_t resident_bytes();
int64_t resident_peak_bytes();
// What of it now is no page of a file (RssAnon).
int64_t resident_anonymous_bytes();

// The highest use of this device's memory by the process: resident bytes on the CPU, what was
// charged on a card.
int64_t peak_bytes(Device device);

}  // namespace tenon
