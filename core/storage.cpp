// SPDX-License-Identifier: Apache-2.0
#include "core/storage.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.h"

namespace tenon {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kSlack = int64_t{16}
                           << 20;  // live + cached may exceed the highest live size by this much

// Free blocks by exact size: a training step asks for the same sizes again and again.
class BlockCache {
 public:
  // A block of exactly `bytes`, from the cache or the system; null when the system has none.
  void* take(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    live_ += bytes;
    peak_live_ = std::max(peak_live_, live_);
    if (const auto found = free_.find(bytes); found != free_.end()) {
      void* block = found->second.back();
      found->second.pop_back();
      if (found->second.empty()) free_.erase(found);
      cached_ -= bytes;
      return block;
    }
    while (cached_ > 0 && live_ + cached_ > peak_live_ + kSlack) drop_largest();
    void* block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
    if (block == nullptr) {
      while (cached_ > 0) drop_largest();
      block = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
    }
    if (block == nullptr) live_ -= bytes;
    return block;
  }

  void give(void* block, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    free_[bytes].push_back(block);
    live_ -= bytes;
    cached_ += bytes;
  }

  void clear() {
    const std::lock_guard lock(mutex_);
    while (cached_ > 0) drop_largest();
  }

 private:
  void drop_largest() {
    const auto largest = std::prev(free_.end());
    std::free(largest->second.back());
    largest->second.pop_back();
    cached_ -= largest->first;
    if (largest->second.empty()) free_.erase(largest);
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  int64_t live_ = 0, peak_live_ = 0, cached_ = 0;
};

BlockCache& cache() {
  static BlockCache* blocks = new BlockCache;  // outlives every static tensor
  return *blocks;
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, MemoryKind kind) {
  TENON_CHECK(bytes >= 0, "[storage] cannot allocate {} bytes", bytes);
  std::shared_ptr<Storage> storage(new Storage);
  const int64_t rounded = (std::max<int64_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  storage->data_ = static_cast<std::byte*>(cache().take(rounded));
  storage->account_ = &memory();
  if (storage->data_ == nullptr) {
    std::string held;
    for (int k = 0; k < kMemoryKinds; ++k) {
      const auto each = static_cast<MemoryKind>(k);
      held += fmt::format("{}{} {:.2f} GB", k == 0 ? "" : ", ", name_of(each),
                          1e-9 * static_cast<double>(memory().now(each)));
    }
    fail(Exit::kMemory, "out of memory: {:.2f} GB asked for {}; held: {}",
         1e-9 * static_cast<double>(bytes), name_of(kind), held);
  }
  storage->bytes_ = bytes;
  storage->charged_ = rounded;
  storage->kind_ = kind;
  storage->account_->charge(kind, rounded);
  return storage;
}

std::shared_ptr<Storage> Storage::borrow(const void* data, int64_t bytes,
                                         std::shared_ptr<const void> owner, MemoryKind kind) {
  TENON_CHECK(owner != nullptr, "[storage] borrowed bytes need an owner");
  std::shared_ptr<Storage> storage(new Storage);
  storage->data_ = static_cast<std::byte*>(const_cast<void*>(data));
  storage->bytes_ = bytes;
  storage->charged_ = bytes;
  storage->kind_ = kind;
  storage->account_ = &memory();
  storage->owner_ = std::move(owner);
  storage->account_->charge(kind, bytes);
  return storage;
}

Storage::~Storage() {
  if (account_ != nullptr && data_ != nullptr) account_->release(kind_, charged_);
  if (owner_ == nullptr && data_ != nullptr) cache().give(data_, charged_);
}

void release_cached_memory() { cache().clear(); }

}  // namespace tenon
