// SPDX-License-Identifier: Apache-2.0
// The scratch memory of one thread that runs kernels: a block for each slot, grown where more is asked
// for. thread_scratch() (core/parallel_for.h) takes from the calling thread's.
#pragma once

#include <array>
#include <cstdint>

#include "core/memory.h"

namespace tenon {

class Scratch {
 public:
  static constexpr int kSlots = 8;

  explicit Scratch(MemoryAccount& account = memory_process()) : account_(account) {}
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // At least `bytes` bytes, 64-byte aligned, contents undefined. Throws Error(kMemory) where they are
  // beyond the limit, std::bad_alloc where there are none.
  void* take(int slot, int64_t bytes);

 private:
  struct Block {
    void* data = nullptr;
    int64_t bytes = 0;
  };
  void release(Block& block);

  MemoryAccount& account_;
  std::array<Block, kSlots> blocks_;
};

// Puts `scratch` in the place of the calling thread's own, or that again for null.
void use_scratch(Scratch* scratch);

}  // namespace tenon
