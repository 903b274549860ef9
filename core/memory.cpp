// SPDX-License-Identifier: Apache-2.0
#include "core/memory.h"

#include <fstream>
#include <string>

namespace tenon {
namespace {

// True where it rose.
bool raise_to(std::atomic<int64_t>& peak, int64_t value) {
  int64_t seen = peak.load(std::memory_order_relaxed);
  while (seen < value) {
    if (peak.compare_exchange_weak(seen, value, std::memory_order_relaxed)) return true;
  }
  return false;
}

thread_local MemoryAccount* current = nullptr;

// A "VmXxx:  1234 kB" line of /proc/self/status, in bytes; 0 where there is none.
int64_t status_line(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == key) {
      int64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  }
  return 0;
}

}  // namespace

const char* name_of(MemoryKind kind) {
  constexpr const char* kNames[] = {"weights",     "gradients", "optimizer",
                                    "activations", "workspace", "mapped"};
  return kNames[static_cast<size_t>(kind)];
}

void MemoryAccount::charge(MemoryKind kind, int64_t bytes) {
  raise_to(peak_[index(kind)], now_[index(kind)] += bytes);
  if (kind == MemoryKind::kMapped || !raise_to(total_peak_, total_ += bytes)) return;
  for (size_t i = 0; i < now_.size(); ++i) at_peak_[i] = now_[i].load(std::memory_order_relaxed);
}

void MemoryAccount::release(MemoryKind kind, int64_t bytes) {
  now_[index(kind)] -= bytes;
  if (kind != MemoryKind::kMapped) total_ -= bytes;
}

void MemoryAccount::reset_peaks() {
  for (size_t i = 0; i < peak_.size(); ++i) at_peak_[i] = peak_[i] = now_[i].load();
  total_peak_ = total_.load();
}

MemoryAccount& memory_process() {
  static MemoryAccount* account =
      new MemoryAccount;  // never destroyed: thread-local blocks outlive statics
  return *account;
}

MemoryAccount& memory(Device device) {
  static MemoryAccount* card = new MemoryAccount;
  if (device != Device::kCPU) return *card;
  return current != nullptr ? *current : memory_process();
}

MemoryScope::MemoryScope(MemoryAccount& account) : previous_(current) { current = &account; }
MemoryScope::~MemoryScope() { current = previous_; }

int64_t resident_bytes() { return status_line("VmRSS:"); }
int64_t resident_peak_bytes() { return status_line("VmHWM:"); }

int64_t resident_anonymous_bytes() { return status_line("RssAnon:"); }

int64_t peak_bytes(Device device) {
  return device == Device::kCPU ? resident_peak_bytes() : memory(device).peak();
}

}  // namespace tenon
