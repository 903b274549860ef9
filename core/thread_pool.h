// SPDX-License-Identifier: Apache-2.0
// The workers behind parallel_for: one pool for each thread that asks (each rank of a test has its
// own). A worker that waits spins for some microseconds, because the next kernel mostly follows at
// once, and then sleeps; where threads outnumber the cores nobody spins.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "core/scratch.h"

namespace tenon {

class ThreadPool {
 public:
  // `workers` threads besides the caller's. `spins`: how often a waiting thread looks before it
  // sleeps.
  ThreadPool(int workers, int spins);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int workers() const { return static_cast<int>(threads_.size()); }

  // Every worker gets at least so much scratch memory in the slot. Not while run() is under way.
  void reserve(int slot, int64_t bytes);

  // Runs body(context, chunk) for all chunks, the caller taking part. One call at a time.
  void run(int64_t chunks, void (*body)(void* context, int64_t chunk), void* context);

  // True on a worker, and on a thread whose run() is under way: a nested call runs alone.
  static bool busy();

 private:
  void work(Scratch& scratch);
  void take_chunks();
  // Waits until done() holds: spins, then sleeps on `changed_`.
  template <class Done>
  void wait(Done done);
  void wake();

  const int spins_;
  std::deque<Scratch> scratch_;  // of each worker
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<int64_t> round_{0};  // calls of run() so far; -1 ends the workers
  std::atomic<int> working_{0};    // workers that have not finished the round
  std::atomic<int64_t> next_{0};   // the first chunk that nobody has taken
  int64_t chunks_ = 0;
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
};

}  // namespace tenon
