// SPDX-License-Identifier: Apache-2.0
// Bytes that tests write and read on the host and kernels where they run: on the host too, or in
// the memory of a device, where they are copied to and from as they are asked for.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/device.h"

namespace tenon::test {

// Where the arrays that are made next lie.
struct Placement {
  const DeviceMemory* memory = nullptr;  // null: on the host
  int64_t offset = 0;                    // elements before an array on a device: 0 aligns it
};
inline Placement& placement() {
  static Placement place;
  return place;
}

class PlacedBytes {
 public:
  static constexpr unsigned char kFill = 0xFB;

  // `guard` bytes of kFill on either side on the host; on a device only what `offset` leaves before
  // the array, so that it ends where its block of memory does. Requires: that is at most `guard`.
  PlacedBytes(int64_t bytes, int64_t element_size, int64_t guard)
      : guard_(guard),
        size_(bytes),
        memory_(placement().memory),
        skipped_(memory_ == nullptr ? 0 : placement().offset * element_size),
        bytes_(static_cast<size_t>(bytes + 2 * guard), kFill) {}
  PlacedBytes(const PlacedBytes& other)
      : guard_(other.guard_),
        size_(other.size_),
        memory_(other.memory_),
        skipped_(other.skipped_),
        bytes_(other.all()) {}
  PlacedBytes& operator=(const PlacedBytes&) = delete;
  ~PlacedBytes() {
    if (block_ == nullptr) return;
    try {
      memory_->release(block_, skipped_ + size_);
    } catch (const std::exception&) {  // a device that failed: the next read tells
    }
  }

  // The address for a kernel that writes. A read on the host ends its use: ask again.
  void* for_kernel() {
    char* address = static_cast<char*>(place());
    truth_ = memory_ == nullptr ? Truth::kHost : Truth::kDevice;
    return address;
  }
  // The address for a kernel that reads.
  const void* for_kernel() const { return place(); }

  const unsigned char* host() const { return all().data() + guard_; }
  unsigned char* host() {
    all();
    truth_ = Truth::kHost;
    return bytes_.data() + guard_;
  }
  // With the guards.
  const std::vector<unsigned char>& all() const {
    if (truth_ == Truth::kDevice) fetch();
    return bytes_;
  }
  bool guards_intact() const {
    const std::vector<unsigned char>& bytes = all();
    for (int64_t i = 0; i < guard_; ++i) {
      if (bytes[static_cast<size_t>(i)] != kFill) return false;
      if (bytes[bytes.size() - 1 - static_cast<size_t>(i)] != kFill) return false;
    }
    return true;
  }

 private:
  enum class Truth { kHost, kBoth, kDevice };

  void* place() const {
    if (memory_ == nullptr) return const_cast<unsigned char*>(bytes_.data()) + guard_;
    const int64_t bytes = skipped_ + size_;
    if (block_ == nullptr && bytes > 0) block_ = memory_->allocate(bytes);
    if (truth_ == Truth::kHost && bytes > 0) {
      memory_->upload(block_, bytes_.data() + guard_ - skipped_, bytes);
      truth_ = Truth::kBoth;
    }
    return static_cast<char*>(block_) + skipped_;
  }
  void fetch() const {
    if (size_ > 0) memory_->download(bytes_.data() + guard_ - skipped_, block_, skipped_ + size_);
    truth_ = Truth::kBoth;
    if (const char* failure = memory_->failure()) throw std::runtime_error(failure);
  }

  int64_t guard_, size_;
  const DeviceMemory* memory_;
  int64_t skipped_;  // bytes before the array in block_
  mutable std::vector<unsigned char> bytes_;
  mutable void* block_ = nullptr;
  mutable Truth truth_ = Truth::kHost;
};

// Plain values for kernels: ids, lists.
template <class T>
class PlacedArray {
 public:
  explicit PlacedArray(const std::vector<T>& values)
      : count_(values.size()),
        bytes_(static_cast<int64_t>(values.size() * sizeof(T)), sizeof(T), 64) {
    T* to = reinterpret_cast<T*>(bytes_.host());
    for (size_t i = 0; i < count_; ++i) to[i] = values[i];
  }
  T* data() { return static_cast<T*>(bytes_.for_kernel()); }
  const T* data() const { return static_cast<const T*>(bytes_.for_kernel()); }
  T operator[](size_t i) const { return reinterpret_cast<const T*>(bytes_.host())[i]; }

 private:
  size_t count_;
  PlacedBytes bytes_;
};

}  // namespace tenon::test
