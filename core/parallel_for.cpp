// SPDX-License-Identifier: Apache-2.0
// parallel_for over a pool of the calling thread. Not OpenMP: its waiting threads spin for
// milliseconds, which on a shared machine, or with more threads than cores, takes the cores from
// those that work (verify on 3 threads of 2 cores: 11 s, and 0.3 s with threads that sleep).
#include "core/parallel_for.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "core/error.h"
#include "core/memory.h"
#include "core/thread_pool.h"

namespace tenon {
namespace {

// Looks at the next kernel for about 50 us before a waiting thread sleeps.
constexpr int kSpins = 1000;

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

// Cores that this process may run on; never more than OMP_NUM_THREADS, which users set for that.
int default_thread_count() {
  const char* wanted = std::getenv("OMP_NUM_THREADS");
  const int limit = wanted != nullptr ? std::atoi(wanted) : 0;
  return limit > 0 ? std::min(limit, available_cores()) : available_cores();
}

thread_local int threads = 0;  // 0: not set yet
thread_local std::unique_ptr<ThreadPool> pool;

constexpr int kScratchSlots = 8;

struct ScratchBlock {
  void* data = nullptr;
  int64_t bytes = 0;
  ~ScratchBlock() { release(); }
  void release() {
    if (data == nullptr) return;
    std::free(data);
    memory_process().release(MemoryKind::kWorkspace, bytes);
    data = nullptr;
    bytes = 0;
  }
};

thread_local ScratchBlock scratch[kScratchSlots];

}  // namespace

int thread_count() {
  if (threads == 0) threads = default_thread_count();
  return threads;
}

void set_thread_count(int count) {
  TENON_CHECK(count >= 1, "[threads] the number of threads must be at least 1, got {}", count);
  threads = count;
}

void parallel_for(int64_t chunks, void (*body)(void* context, int64_t chunk), void* context) {
  const int team = thread_count();
  if (team <= 1 || chunks <= 1 || ThreadPool::busy()) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    return;
  }
  if (pool == nullptr || pool->workers() != team - 1) {
    pool = std::make_unique<ThreadPool>(team - 1, team <= available_cores() ? kSpins : 0);
  }
  pool->run(chunks, body, context);
}

void* thread_scratch(int slot, int64_t bytes) {
  TENON_CHECK(slot >= 0 && slot < kScratchSlots, "[scratch] slot {} is outside 0..{}", slot,
              kScratchSlots - 1);
  ScratchBlock& block = scratch[slot];
  if (block.bytes >= bytes && block.data != nullptr) return block.data;
  block.release();
  const int64_t rounded = (std::max<int64_t>(bytes, 64) + 63) / 64 * 64;
  block.data = std::aligned_alloc(64, static_cast<size_t>(rounded));
  if (block.data == nullptr) throw std::bad_alloc();
  block.bytes = rounded;
  memory_process().charge(MemoryKind::kWorkspace, rounded);
  return block.data;
}

}  // namespace tenon
