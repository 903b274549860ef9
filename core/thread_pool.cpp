// SPDX-License-Identifier: Apache-2.0
#include "core/thread_pool.h"

namespace tenon {
namespace {

thread_local bool inside = false;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

bool ThreadPool::busy() { return inside; }

ThreadPool::ThreadPool(int workers, int spins) : spins_(spins) {
  for (int i = 0; i < workers; ++i) {
    Scratch& scratch = scratch_.emplace_back();
    threads_.emplace_back([this, &scratch] { work(scratch); });
  }
}

ThreadPool::~ThreadPool() {
  round_.store(-1);
  wake();
  for (std::thread& thread : threads_) thread.join();
}

template <class Done>
void ThreadPool::wait(Done done) {
  for (int i = 0; i < spins_; ++i) {
    if (done()) return;
    pause();
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, done);
}

// The lock orders this with a thread that has just found nothing to do and is about to sleep.
void ThreadPool::wake() {
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

void ThreadPool::take_chunks() {
  for (int64_t chunk; (chunk = next_.fetch_add(1)) < chunks_;) body_(context_, chunk);
}

void ThreadPool::reserve(int slot, int64_t bytes) {
  for (Scratch& scratch : scratch_) scratch.take(slot, bytes);
}

void ThreadPool::work(Scratch& scratch) {
  inside = true;
  use_scratch(&scratch);
  for (int64_t seen = 0;;) {
    wait([&] { return round_.load() != seen; });
    seen = round_.load();
    if (seen < 0) return;
    take_chunks();
    if (working_.fetch_sub(1) == 1) wake();
  }
}

void ThreadPool::run(int64_t chunks, void (*body)(void*, int64_t), void* context) {
  chunks_ = chunks;
  body_ = body;
  context_ = context;
  next_.store(0);
  working_.store(workers());
  round_.fetch_add(1);
  wake();
  inside = true;
  take_chunks();
  inside = false;
  // Every worker must have looked at this round before the next one may begin.
  wait([&] { return working_.load() == 0; });
}

}  // namespace tenon
