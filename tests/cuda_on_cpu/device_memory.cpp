// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_on_cpu/device_memory.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>

namespace tenon::cuda_on_cpu {
namespace {

constexpr uint64_t kRegionBytes = uint64_t{1} << 40;
constexpr uint64_t kAlignment = 256, kGap = 256, kPage = 4096;

struct Region {
  uintptr_t begin = 0, end = 0;  // of what was ever given out
  int users = 0;
  std::vector<DeviceBlock> blocks;      // ascending, live and freed
  std::map<uintptr_t, uintptr_t> live;  // begin and end of the live ones
  std::map<int, int64_t> used;
  std::map<uintptr_t, int64_t> pinned;
};

std::atomic<uintptr_t> region_begin{0};
std::atomic<bool> region_open{false};

uintptr_t page_of(uintptr_t address) { return address / kPage * kPage; }
uintptr_t page_after(uintptr_t address) { return page_of(address + kPage - 1); }

void protect(uintptr_t begin, uintptr_t end, bool open) {
  if (mprotect(reinterpret_cast<void*>(begin), end - begin,
               open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
    throw std::bad_alloc();
}

Region& region() {
  static auto* the = [] {
    auto* made = new Region;
    void* block =
        mmap(nullptr, kRegionBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    made->begin = made->end = reinterpret_cast<uintptr_t>(block);
    region_begin = made->begin;
    return made;
  }();
  return *the;
}

// Opens or closes the pages that hold live blocks; all others stay closed. A call's time goes by
// the pages that were touched, and there is one at every wait for a stream.
void protect_live(const Region& r, bool open) {
  uintptr_t begin = 0, end = 0;  // of pages in a row
  for (const auto& [block_begin, block_end] : r.live) {
    if (page_of(block_begin) > end) {
      if (begin < end) protect(begin, end, open);
      begin = page_of(block_begin);
    }
    end = page_after(block_end);
  }
  if (begin < end) protect(begin, end, open);
}

// Gives back the pages of a freed block that no live one shares, and closes them for good.
void give_back_pages(const Region& r, const DeviceBlock& block) {
  uintptr_t begin = page_of(block.begin);
  uintptr_t end = page_after(block.begin + static_cast<uint64_t>(block.bytes));
  const auto after = r.live.upper_bound(block.begin);
  if (after != r.live.begin()) begin = std::max(begin, page_after(std::prev(after)->second));
  if (after != r.live.end()) end = std::min(end, page_of(after->first));
  if (begin >= end) return;
  if (mmap(reinterpret_cast<void*>(begin), end - begin, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
    throw std::bad_alloc();
}

struct sigaction previous_handler;

// For the signal handler: writes one line and ends the program.
[[noreturn]] void stop(const char* who, const void* address) {
  char line[160];
  const int length =
      std::snprintf(line, sizeof line, "cuda_on_cpu: %s (address %p)\n", who, address);
  if (write(STDERR_FILENO, line, static_cast<size_t>(length)) < 0) std::abort();
  std::abort();
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  if (in_device_region(address))
    stop(region_open ? "a function that the harness does not check touched device memory"
                     : "host code touched device memory",
         info->si_addr);
  if (running != nullptr && running->is_stack(address))
    stop("a kernel ran over the 64 KB of its thread's stack", info->si_addr);
  if ((previous_handler.sa_flags & SA_SIGINFO) != 0)
    previous_handler.sa_sigaction(signal, info, context);
  else if (previous_handler.sa_handler != SIG_DFL && previous_handler.sa_handler != SIG_IGN)
    previous_handler.sa_handler(signal);
  else
    sigaction(SIGSEGV, &previous_handler, nullptr);  // and fault again
}

// Test frameworks exchange the handlers between test cases, so this is asked for at every open and
// close.
void install_fault_handler() {
  struct sigaction present;
  if (sigaction(SIGSEGV, nullptr, &present) == 0 && present.sa_sigaction == &on_fault) return;
  struct sigaction ours = {};
  ours.sa_sigaction = &on_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &ours, &previous_handler);
}

}  // namespace

DeviceAccess::DeviceAccess() {
  Region& r = region();
  if (r.users++ > 0) return;
  install_fault_handler();
  region_open = true;
  protect_live(r, true);
}

DeviceAccess::~DeviceAccess() {
  Region& r = region();
  if (--r.users > 0) return;
  install_fault_handler();
  protect_live(r, false);
  region_open = false;
}

void* allocate_device(int64_t bytes, int device) {
  Region& r = region();
  if (bytes > config().memory - r.used[device]) return nullptr;
  const uintptr_t begin = (r.end + kGap + kAlignment - 1) / kAlignment * kAlignment;
  const uintptr_t end = begin + static_cast<uint64_t>(bytes);
  if (end + kGap > r.begin + kRegionBytes) return nullptr;
  install_fault_handler();
  protect(page_of(begin), page_after(end), true);
  std::memset(reinterpret_cast<void*>(begin), 0xff, static_cast<size_t>(bytes));
  if (r.users == 0) protect(page_of(begin), page_after(end), false);
  r.end = end;
  r.blocks.push_back({begin, bytes, device, false});
  r.live[begin] = end;
  r.used[device] += bytes;
  return reinterpret_cast<void*>(begin);
}

bool free_device(void* block) {
  Region& r = region();
  auto* found = const_cast<DeviceBlock*>(find_device_block(reinterpret_cast<uintptr_t>(block)));
  if (found == nullptr || found->freed || found->begin != reinterpret_cast<uintptr_t>(block))
    return false;
  found->freed = true;
  r.used[found->device] -= found->bytes;
  r.live.erase(found->begin);
  give_back_pages(r, *found);
  return true;
}

int64_t device_bytes_used(int device) { return region().used[device]; }

void* allocate_pinned(int64_t bytes) {
  void* block = nullptr;
  if (posix_memalign(&block, kPage, static_cast<size_t>(std::max<int64_t>(bytes, 1))) != 0)
    return nullptr;
  region().pinned[reinterpret_cast<uintptr_t>(block)] = bytes;
  return block;
}

bool free_pinned(void* block) {
  if (region().pinned.erase(reinterpret_cast<uintptr_t>(block)) == 0) return false;
  std::free(block);
  return true;
}

bool is_pinned(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const auto& pinned = region().pinned;
  auto after = pinned.upper_bound(address);
  if (after == pinned.begin()) return false;
  --after;
  return address - after->first < static_cast<uint64_t>(after->second);
}

bool in_device_region(uintptr_t address) {
  const uintptr_t begin = region_begin;
  return begin != 0 && address - begin < kRegionBytes;
}

const DeviceBlock* find_device_block(uintptr_t address) {
  const auto& blocks = region().blocks;
  const auto after =
      std::upper_bound(blocks.begin(), blocks.end(), address,
                       [](uintptr_t at, const DeviceBlock& b) { return at < b.begin; });
  if (after == blocks.begin()) return nullptr;
  const DeviceBlock& block = *(after - 1);
  return address - block.begin < static_cast<uint64_t>(block.bytes) ? &block : nullptr;
}

std::string device_range_problem(const void* pointer, int64_t bytes, int device) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  const auto size = static_cast<uint64_t>(bytes);
  if (pointer == nullptr) return "a null pointer";
  if (!in_device_region(address)) return text("%p, which is not device memory", pointer);
  const auto& blocks = region().blocks;
  const auto after =
      std::upper_bound(blocks.begin(), blocks.end(), address,
                       [](uintptr_t at, const DeviceBlock& b) { return at < b.begin; });
  const DeviceBlock* before = after == blocks.begin() ? nullptr : &*(after - 1);
  if (before != nullptr && address - before->begin <= static_cast<uint64_t>(before->bytes)) {
    const uint64_t offset = address - before->begin, end = static_cast<uint64_t>(before->bytes);
    if (offset + size <= end) {
      if (before->freed)
        return text("byte %llu of a freed allocation of %lld bytes",
                    static_cast<unsigned long long>(offset), static_cast<long long>(before->bytes));
      if (before->device != device)
        return text("memory of device %d on device %d", before->device, device);
      return "";
    }
  }
  const uint64_t gap_before =
      before == nullptr ? UINT64_MAX : address + size - before->begin - before->bytes;
  const uint64_t gap_after = after == blocks.end() ? UINT64_MAX : after->begin - address;
  if (gap_before == UINT64_MAX && gap_after == UINT64_MAX) return "device memory never allocated";
  const bool past = gap_before <= gap_after;
  const DeviceBlock& near = past ? *before : *after;
  return text("%llu bytes %s an allocation of %lld bytes%s",
              static_cast<unsigned long long>(past ? gap_before : gap_after),
              past ? "past the end of" : "before", static_cast<long long>(near.bytes),
              near.freed ? " (freed)" : "");
}

}  // namespace tenon::cuda_on_cpu
