// SPDX-License-Identifier: Apache-2.0
#include "core/storage.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "core/arena.h"
#include "core/backend.h"
#include "core/counting.h"
#include "core/error.h"

namespace tenon {
namespace {

// Sizes are rounded so that a cache hits. On a card, where asking the driver is slow and sizes
// follow the length of a batch, large ones are rounded to an eighth of their power of two.
int64_t rounded(int64_t bytes, Device device) {
  const int64_t least = device == Device::kCPU ? 64 : 512;
  int64_t unit = least;
  if (device != Device::kCPU) {
    while (unit * 16 <= bytes) unit *= 2;
  }
  return (std::max<int64_t>(bytes, 1) + unit - 1) / unit * unit;
}

// A card's free blocks by exact size. Giving memory back waits for the card's work, so that it is
// only done where the card has no more: a training step asks for the same sizes again and again.
class BlockCache {
 public:
  // A block of exactly `bytes`, from the cache or the device; null when the device has none.
  void* take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    if (const auto found = free_.find(bytes); found != free_.end()) {
      void* block = found->second.back();
      found->second.pop_back();
      if (found->second.empty()) free_.erase(found);
      return block;
    }
    ++asked_;
    void* block = memory_of(Device::kCUDA).allocate(bytes);
    if (block != nullptr || free_.empty()) return block;
    drop_all();
    return memory_of(Device::kCUDA).allocate(bytes);
  }

  void give(void* block, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    free_[bytes].push_back(block);
  }

  int64_t asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

  void clear() {
    const std::lock_guard lock(mutex_);
    drop_all();
  }

 private:
  void drop_all() {
    for (const auto& [bytes, blocks] : free_) {
      for (void* block : blocks) memory_of(Device::kCUDA).release(block, bytes);
    }
    free_.clear();
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  int64_t asked_ = 0;  // blocks that the cache did not have
};

std::atomic<int64_t> memory_limit{0};

// They outlive every static tensor.
Arena& host() {
  static Arena* arena = new Arena;
  return *arena;
}
BlockCache& card() {
  static BlockCache* cache = new BlockCache;
  return *cache;
}

std::string text_of(int64_t bytes) {
  const auto number = static_cast<double>(bytes);
  return bytes < 100'000'000 ? fmt::format("{:.2f} MB", 1e-6 * number)
                             : fmt::format("{:.2f} GB", 1e-9 * number);
}

[[noreturn]] void out_of_memory(int64_t bytes, MemoryKind kind, Device device) {
  std::string held;
  for (int k = 0; k < kMemoryKinds; ++k) {
    const auto each = static_cast<MemoryKind>(k);
    held += fmt::format("{}{} {}", k == 0 ? "" : ", ", name_of(each),
                        text_of(memory(device).now(each)));
  }
  std::string where;
  if (device != Device::kCPU) {
    int64_t left = 0, total = 0;
    cuda::backend().capacity(&left, &total);
    where =
        fmt::format(" on {}, {} of {} free", device_text(device), text_of(left), text_of(total));
  }
  if (device == Device::kCPU && memory_limit > 0)
    where = fmt::format(" within the {} of --memory", text_of(memory_limit));
  fail(Exit::kMemory, "out of memory{}: {} asked for {}; held: {}", where, text_of(bytes),
       name_of(kind), held);
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, MemoryKind kind, Device device) {
  TENON_CHECK(bytes >= 0, "[storage] cannot allocate {} bytes", bytes);
  std::shared_ptr<Storage> storage(new Storage);
  const int64_t charged = rounded(bytes, device);
  void* block = nullptr;
  if (device == Device::kCPU) {
    require_within_limit(charged, kind);
    storage->arena_ = counting() ? &counting()->arena() : &host();
    block = storage->arena_->take(charged);
  } else {
    block = card().take(charged);
  }
  storage->data_ = static_cast<std::byte*>(block);
  if (storage->data_ == nullptr) out_of_memory(bytes, kind, device);
  storage->account_ = &memory(device);
  storage->bytes_ = bytes;
  storage->charged_ = charged;
  storage->kind_ = kind;
  storage->device_ = device;
  storage->account_->charge(kind, charged);
  return storage;
}

std::shared_ptr<Storage> Storage::borrow(const void* data, int64_t bytes,
                                         std::shared_ptr<const void> owner) {
  TENON_CHECK(owner != nullptr, "[storage] borrowed bytes need an owner");
  std::shared_ptr<Storage> storage(new Storage);
  storage->data_ = static_cast<std::byte*>(const_cast<void*>(data));
  storage->bytes_ = bytes;
  storage->charged_ = bytes;
  storage->kind_ = MemoryKind::kMapped;
  storage->account_ = &memory();
  storage->owner_ = std::move(owner);
  storage->account_->charge(storage->kind_, bytes);
  return storage;
}

Storage::~Storage() {
  if (account_ != nullptr && data_ != nullptr) account_->release(kind_, charged_);
  if (owner_ != nullptr || data_ == nullptr) return;
  if (arena_ != nullptr) {
    arena_->give(data_, charged_);
  } else {
    card().give(data_, charged_);
  }
}

MemoryLimit::MemoryLimit(int64_t bytes) { memory_limit = bytes; }
MemoryLimit::~MemoryLimit() { memory_limit = 0; }

void require_within_limit(int64_t bytes, MemoryKind kind) {
  const int64_t limit = memory_limit;
  if (limit == 0 || counting() != nullptr || memory_process().now() + bytes <= limit) return;
  out_of_memory(bytes, kind, Device::kCPU);
}

int64_t blocks_asked_for(Device device) {
  return device == Device::kCPU ? host().segments_asked_for() : card().asked();
}

void release_cached_memory() {
  host().trim();
  card().clear();
}

}  // namespace tenon
