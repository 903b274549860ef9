// SPDX-License-Identifier: Apache-2.0
// Spreads the blocks of a grid over OS threads. Blocks start in an order drawn from the seed.
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>

#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

struct Grid {
  const Launch* launch;
  int device;
  uint64_t blocks, stride, first, seed;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
};

// Takes blocks until none is left. n -> (stride n + first) mod blocks visits each once, since
// stride and blocks have no common factor.
void work(Worker& worker, Grid& grid) {
  const dim3 extent = grid.launch->blocks;
  for (Extent& each : worker.cached) each = {};
  while (!grid.failed) {
    const uint64_t n = grid.next++;
    if (n >= grid.blocks) return;
    const uint64_t i = static_cast<uint64_t>(
        (static_cast<unsigned __int128>(n) * grid.stride + grid.first) % grid.blocks);
    const dim3 block(static_cast<unsigned>(i % extent.x),
                     static_cast<unsigned>(i / extent.x % extent.y),
                     static_cast<unsigned>(i / extent.x / extent.y));
    if (!worker.run_block(*grid.launch, grid.device, block, grid.seed + i)) grid.failed = true;
  }
}

// The OS threads beyond the caller's. They live to the end of the process, asleep between grids.
class Helpers {
 public:
  explicit Helpers(int count) {
    for (int i = 0; i < count; ++i) std::thread([this] { serve(); }).detach();
    count_ = count;
  }

  int count() const { return count_; }

  void start(Grid& grid) {
    const std::lock_guard lock(mutex_);
    grid_ = &grid;
    ++round_;
    wake_.notify_all();
  }

  // Waits for those who have begun; who wakes later finds nothing to do.
  void finish() {
    std::unique_lock lock(mutex_);
    grid_ = nullptr;
    done_.wait(lock, [this] { return working_ == 0; });
  }

 private:
  void serve() {
    Worker worker;
    uint64_t round = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return grid_ != nullptr && round_ != round; });
      round = round_;
      Grid& grid = *grid_;
      ++working_;
      lock.unlock();
      work(worker, grid);
      lock.lock();
      if (--working_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Grid* grid_ = nullptr;
  uint64_t round_ = 0;
  int working_ = 0, count_ = 0;
};

// Made anew when the number changes, and in a child process, which inherits no threads.
Helpers& helpers(int count) {
  static Helpers* present = nullptr;
  static pid_t owner = 0;
  if (present == nullptr || present->count() != count || owner != getpid()) {
    present = new Helpers(count);
    owner = getpid();
  }
  return *present;
}

}  // namespace

bool run_grid(const Launch& launch, int device) {
  static thread_local std::unique_ptr<Worker> own;
  if (own == nullptr) own = std::make_unique<Worker>();
  static uint64_t launches = 0;
  const Config present = config();
  Grid grid{.launch = &launch, .device = device, .blocks = 0, .stride = 1, .first = 0, .seed = 0};
  grid.blocks = uint64_t{launch.blocks.x} * launch.blocks.y * launch.blocks.z;
  grid.seed = (present.seed * 1000003 + ++launches) * 0x9e3779b97f4a7c15ull;
  grid.first = grid.seed % grid.blocks;
  grid.stride = (grid.seed >> 20) % grid.blocks | 1;
  while (std::gcd(grid.stride, grid.blocks) != 1) ++grid.stride;
  const bool alone = grid.blocks == 1 || present.threads == 1;
  if (alone) {
    work(*own, grid);
  } else {
    Helpers& others = helpers(present.threads - 1);
    others.start(grid);
    work(*own, grid);
    others.finish();
  }
  return !grid.failed;
}

}  // namespace tenon::cuda_on_cpu
