// SPDX-License-Identifier: Apache-2.0
#include "core/storage.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "core/backend.h"
#include "core/error.h"

namespace tenon {
namespace {

// Live and cached bytes may exceed the highest live size by this much: on the host, which is shared
// with others, by little; on a card by all that it has, because giving memory back there waits for
// its work.
int64_t slack_of(Device device) {
  return device == Device::kCPU ? int64_t{16} << 20 : int64_t{1} << 50;
}

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

// Free blocks by exact size: a training step asks for the same sizes again and again.
class BlockCache {
 public:
  explicit BlockCache(Device device) : device_(device) {}

  // A block of exactly `bytes`, from the cache or the device; null when the device has none.
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
    while (cached_ > 0 && live_ + cached_ > peak_live_ + slack_of(device_)) drop_largest();
    void* block = memory_of(device_).allocate(bytes);
    if (block == nullptr) {
      while (cached_ > 0) drop_largest();
      block = memory_of(device_).allocate(bytes);
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
    memory_of(device_).release(largest->second.back(), largest->first);
    largest->second.pop_back();
    cached_ -= largest->first;
    if (largest->second.empty()) free_.erase(largest);
  }

  Device device_;
  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  int64_t live_ = 0, peak_live_ = 0, cached_ = 0;
};

BlockCache& cache(Device device) {
  static BlockCache* host = new BlockCache(Device::kCPU);  // they outlive every static tensor
  static BlockCache* card = new BlockCache(Device::kCUDA);
  return device == Device::kCPU ? *host : *card;
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
  fail(Exit::kMemory, "out of memory{}: {} asked for {}; held: {}", where, text_of(bytes),
       name_of(kind), held);
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, MemoryKind kind, Device device) {
  TENON_CHECK(bytes >= 0, "[storage] cannot allocate {} bytes", bytes);
  std::shared_ptr<Storage> storage(new Storage);
  const int64_t charged = rounded(bytes, device);
  storage->data_ = static_cast<std::byte*>(cache(device).take(charged));
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
  if (owner_ == nullptr && data_ != nullptr) cache(device_).give(data_, charged_);
}

void release_cached_memory() {
  cache(Device::kCPU).clear();
  cache(Device::kCUDA).clear();
}

}  // namespace tenon
