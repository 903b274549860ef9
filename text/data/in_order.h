// SPDX-License-Identifier: Apache-2.0
// A pipeline over the calling thread's share of the machine (parallel_for): items are made one after
// the other, worked on side by side, and taken in the order in which they were made.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <mutex>
#include <utility>

#include "core/parallel_for.h"

namespace tenon {

// Calls make(item) until it says false, work(item) for each item, and take(item) in order. make()
// is called by one thread at a time, and so is take(), perhaps at the same time as the other. At
// most kAhead items a thread are held at a time. The first exception, in the order of items, ends
// it and is thrown; items behind it may have been made and worked on.
template <class Item, class Make, class Work, class Take>
class InOrder {
 public:
  InOrder(Make make, Work work, Take take)
      : make_(std::move(make)), work_(std::move(work)), take_(std::move(take)) {}

  void run() {
    const int threads = thread_count();
    most_ = threads * kAhead;
    parallel_for(
        threads, [](void* self, int64_t) { static_cast<InOrder*>(self)->serve(); }, this);
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static constexpr int64_t kAhead = 4;

  struct Entry {
    Item item;
    std::exception_ptr failure;
  };

  // What each thread does until nothing is left.
  void serve() {
    Entry entry;
    for (int64_t index; (index = next(entry)) >= 0;) {
      if (!entry.failure) guard(entry, work_);
      finish(index, std::move(entry));
      entry = Entry();
    }
  }

  template <class Function>
  static auto guard(Entry& entry, Function& function) {
    try {
      return function(entry.item);
    } catch (...) {
      entry.failure = std::current_exception();
      return decltype(function(entry.item))();
    }
  }

  // The number of the next item, or -1. An item that could not be made goes the way of the others,
  // so that those before it come first.
  int64_t next(Entry& entry) {
    const std::lock_guard turn(making_);
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [&] { return ended_ || made_ - taken_ < most_; });
      if (ended_) return -1;
    }
    const bool more = guard(entry, make_);
    const std::lock_guard lock(mutex_);
    if (!more) ended_ = true;
    return more || entry.failure ? made_++ : -1;
  }

  // Parks the item, and takes those whose turn it is unless another thread is at it.
  void finish(int64_t index, Entry entry) {
    std::unique_lock lock(mutex_);
    done_.emplace(index, std::move(entry));
    if (taking_) return;
    taking_ = true;
    while (!done_.empty() && done_.begin()->first == taken_) {
      auto node = done_.extract(done_.begin());
      Entry& first = node.mapped();
      lock.unlock();
      if (!first.failure && !failure_) guard(first, take_);
      lock.lock();
      if (first.failure && !failure_) failure_ = first.failure;
      if (failure_) ended_ = true;
      ++taken_;
      room_.notify_all();
    }
    taking_ = false;
  }

  Make make_;
  Work work_;
  Take take_;
  int64_t most_ = 0;

  std::mutex making_;  // held by the thread that makes an item
  std::mutex mutex_;   // over what follows
  std::condition_variable room_;
  std::map<int64_t, Entry> done_;  // worked on, not yet taken
  int64_t made_ = 0, taken_ = 0;
  bool ended_ = false, taking_ = false;
  std::exception_ptr failure_;
};

template <class Item, class Make, class Work, class Take>
void in_order(Make make, Work work, Take take) {
  InOrder<Item, Make, Work, Take>(std::move(make), std::move(work), std::move(take)).run();
}

}  // namespace tenon
