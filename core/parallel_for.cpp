// SPDX-License-Identifier: Apache-2.0
// parallel_for over OpenMP: its pool is shared with oneDNN in the benchmarks, and each rank thread
// of a test gets its own team.
#include "core/parallel_for.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/error.h"
#include "core/memory.h"

namespace tenon {
namespace {

// Cores that this process may run on; never more than asked for by OMP_NUM_THREADS.
int default_thread_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  return std::max(1, std::min(cores, omp_get_max_threads()));
}

thread_local int threads = 0;  // 0: not set yet

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
  const int team = static_cast<int>(std::min<int64_t>(thread_count(), chunks));
  if (team <= 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
    return;
  }
#pragma omp parallel for num_threads(team) schedule(dynamic, 1)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) body(context, chunk);
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
