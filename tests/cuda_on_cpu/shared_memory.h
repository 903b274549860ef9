// SPDX-License-Identifier: Apache-2.0
// A block's shared memory: the dynamic part first, then the static arrays, with guards between them
// that no access may touch. Filled with NaN at the block's start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda_on_cpu/shadow.h"

namespace tenon::cuda_on_cpu {

// One array of the block.
struct SharedArray {
  const void* tag = nullptr;
  const char* name = "";
  int64_t begin = 0, bytes = 0;  // from the start of the buffer
};

class SharedMemory {
 public:
  static constexpr uint64_t kBytes = 320 * 1024;

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;

  void start_block(int threads, int64_t dynamic_bytes);
  void* dynamic() { return base_ + arrays_[0].begin; }
  // The array of this tag, made where the block has none yet. Null when the buffer is full.
  void* array(const void* tag, const char* name, int64_t bytes, int64_t alignment);
  int64_t static_bytes() const { return static_bytes_; }

  bool holds(uintptr_t address) const { return address - begin() < kBytes; }
  // Whether one array holds all the bytes.
  bool inside(uintptr_t address, uint64_t bytes) const {
    const auto offset = static_cast<int64_t>(address - begin());
    const int number = array_of_[static_cast<uint64_t>(offset) / 4];
    if (number == 0) return false;
    const SharedArray& array = arrays_[static_cast<size_t>(number - 1)];
    return offset >= array.begin &&
           offset + static_cast<int64_t>(bytes) <= array.begin + array.bytes;
  }
  // "'partial' + 16 bytes", "8 bytes past the end of 'partial' of 128 bytes".
  std::string describe(uintptr_t address, uint64_t bytes) const;

  // Plain __shared__ variables: the OS thread's copies of the program's thread_local ones.
  bool is_plain(uintptr_t address) const { return plain_.holds(address); }

  Shadow& shadow() { return shadow_; }
  Shadow& plain_shadow() { return plain_; }
  Order& order() { return order_; }
  uintptr_t begin() const { return reinterpret_cast<uintptr_t>(base_); }

 private:
  void add(const void* tag, const char* name, int64_t begin, int64_t bytes);

  char* base_;
  std::vector<SharedArray> arrays_;  // [0] is the dynamic part
  std::vector<uint8_t> array_of_;    // by word: 1 + index in arrays_, 0 in a guard
  int64_t end_ = 0, static_bytes_ = 0;
  Order order_;
  Shadow shadow_, plain_;
};

}  // namespace tenon::cuda_on_cpu
