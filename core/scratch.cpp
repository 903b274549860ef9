// SPDX-License-Identifier: Apache-2.0
#include "core/scratch.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/error.h"
#include "core/parallel_for.h"
#include "core/storage.h"

namespace tenon {
namespace {

thread_local Scratch own_scratch;
thread_local Scratch* other_scratch = nullptr;

}  // namespace

Scratch::~Scratch() {
  for (Block& block : blocks_) release(block);
}

void Scratch::release(Block& block) {
  if (block.data == nullptr) return;
  std::free(block.data);
  account_.release(MemoryKind::kWorkspace, block.bytes);
  block = {};
}

void* Scratch::take(int slot, int64_t bytes) {
  TENON_CHECK(slot >= 0 && slot < kSlots, "[scratch] slot {} is outside 0..{}", slot, kSlots - 1);
  Block& block = blocks_[static_cast<size_t>(slot)];
  if (block.bytes >= bytes && block.data != nullptr) return block.data;
  release(block);
  const int64_t rounded = (std::max<int64_t>(bytes, 64) + 63) / 64 * 64;
  require_within_limit(rounded, MemoryKind::kWorkspace);
  block.data = std::aligned_alloc(64, static_cast<size_t>(rounded));
  if (block.data == nullptr) throw std::bad_alloc();
  block.bytes = rounded;
  account_.charge(MemoryKind::kWorkspace, rounded);
  return block.data;
}

void use_scratch(Scratch* scratch) { other_scratch = scratch; }

void* thread_scratch(int slot, int64_t bytes) {
  return (other_scratch != nullptr ? *other_scratch : own_scratch).take(slot, bytes);
}

}  // namespace tenon
