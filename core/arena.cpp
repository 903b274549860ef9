// SPDX-License-Identifier: Apache-2.0
#include "core/arena.h"

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>

#include <algorithm>

namespace tenon {
namespace {

// Segments are of address space: memory is only taken where they are touched.
constexpr int64_t kSegment = int64_t{256} << 20;
// Pages of this size need fewer translations, and fewer faults when they are first touched.
constexpr int64_t kHugePage = int64_t{2} << 20;

// Behind each block, so that AddressSanitizer sees who writes past its end.
constexpr int64_t kGuard = 64;

int64_t round_up(int64_t bytes, int64_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

Arena::~Arena() {
  for (const auto& [begin, segment] : segments_) {
    // What the system puts there next is not this arena's.
    ASAN_UNPOISON_MEMORY_REGION(begin, static_cast<size_t>(segment.bytes));
    munmap(begin, static_cast<size_t>(segment.bytes));
  }
}

void* Arena::take(int64_t bytes) {
  const std::lock_guard lock(mutex_);
  const int64_t whole = bytes + kGuard;
  void* block = take_free(whole);
  if (block == nullptr) block = take_fresh(whole);
  if (block == nullptr && (add_segment(std::max(whole, kSegment)) || add_segment(whole)))
    block = take_fresh(whole);
  if (block != nullptr) ASAN_UNPOISON_MEMORY_REGION(block, static_cast<size_t>(bytes));
  return block;
}

// The smallest free block that is large enough; what is left of it stays free.
void* Arena::take_free(int64_t bytes) {
  const auto fit = free_sizes_.lower_bound({bytes, nullptr});
  if (fit == free_sizes_.end()) return nullptr;
  const auto [size, block] = *fit;
  erase(free_.find(block));
  if (size > bytes) insert(block + bytes, size - bytes);
  return block;
}

void* Arena::take_fresh(int64_t bytes) {
  for (auto& [begin, segment] : segments_) {
    if (begin + segment.bytes - segment.fresh < bytes) continue;
    // A free block that ends where the untouched part begins is used up first.
    Address block = segment.fresh;
    auto last = free_.lower_bound(block);
    const bool joined =
        last != free_.begin() && (--last)->first >= begin && last->first + last->second == block;
    if (joined) block = last->first;
    if (!open(begin, segment, block + bytes)) return nullptr;
    if (joined) erase(last);
    segment.fresh = block + bytes;
    return block;
  }
  return nullptr;
}

// Lets a segment be written up to `end`, in steps of whole huge pages.
bool Arena::open(Address begin, Segment& segment, Address end) {
  if (end <= segment.open) return true;
  const auto at = reinterpret_cast<intptr_t>(end);
  end = std::min(end + (round_up(at, kHugePage) - at), begin + segment.bytes);
  const auto more = static_cast<size_t>(end - segment.open);
  if (mprotect(segment.open, more, PROT_READ | PROT_WRITE) != 0) return false;
  segment.open = end;
  return true;
}

bool Arena::add_segment(int64_t bytes) {
  const int64_t size = round_up(bytes, kHugePage);
  ++asked_;
  void* memory = mmap(nullptr, static_cast<size_t>(size), PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  // Only advice: without huge pages it is slower and not wrong.
  madvise(memory, static_cast<size_t>(size), MADV_HUGEPAGE);
  ASAN_POISON_MEMORY_REGION(memory, static_cast<size_t>(size));
  const auto begin = static_cast<Address>(memory);
  segments_[begin] = {size, begin, begin};
  return true;
}

void Arena::give(void* memory, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  auto block = static_cast<Address>(memory);
  ASAN_POISON_MEMORY_REGION(memory, static_cast<size_t>(bytes));
  bytes += kGuard;
  const Address begin = segment_of(block)->first;
  const auto next = free_.lower_bound(block);
  if (next != free_.begin()) {
    const auto last = std::prev(next);
    if (last->first >= begin && last->first + last->second == block) {
      block = last->first;
      bytes += last->second;
      erase(last);
    }
  }
  if (const auto after = free_.find(block + bytes);
      after != free_.end() && segment_of(after->first)->first == begin) {
    bytes += after->second;
    erase(after);
  }
  insert(block, bytes);
}

void Arena::trim() {
  const std::lock_guard lock(mutex_);
  for (auto at = segments_.begin(); at != segments_.end();) {
    const auto [begin, segment] = *at;
    const auto block = free_.find(begin);
    const bool unused = segment.fresh == begin;
    if (!unused && (block == free_.end() || begin + block->second != segment.fresh)) {
      ++at;
      continue;
    }
    if (!unused) erase(block);
    ASAN_UNPOISON_MEMORY_REGION(begin, static_cast<size_t>(segment.bytes));
    munmap(begin, static_cast<size_t>(segment.bytes));
    at = segments_.erase(at);
  }
}

int64_t Arena::touched() {
  const std::lock_guard lock(mutex_);
  int64_t bytes = 0;
  for (const auto& [begin, segment] : segments_) bytes += segment.fresh - begin;
  return bytes;
}

int64_t Arena::segments_asked_for() {
  const std::lock_guard lock(mutex_);
  return asked_;
}

void Arena::insert(Address block, int64_t bytes) {
  free_[block] = bytes;
  free_sizes_.insert({bytes, block});
}

void Arena::erase(std::map<Address, int64_t>::iterator block) {
  free_sizes_.erase({block->second, block->first});
  free_.erase(block);
}

std::map<Arena::Address, Arena::Segment>::iterator Arena::segment_of(Address block) {
  return std::prev(segments_.upper_bound(block));
}

}  // namespace tenon
