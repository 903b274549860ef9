// SPDX-License-Identifier: Apache-2.0
// Scratch objects that calls borrow while they run, so that an object which is shared between
// threads needs no turns: there come to be as many as calls at the same time, and what is in them
// (a cache, grown buffers) serves the next call.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace tenon {

template <class T>
class ScratchPool {
 public:
  class Loan {
   public:
    Loan(ScratchPool& pool, std::unique_ptr<T> object) : pool_(pool), object_(std::move(object)) {}
    ~Loan() {
      const std::lock_guard lock(pool_.mutex_);
      pool_.free_.push_back(std::move(object_));
    }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    T& operator*() const { return *object_; }
    T* operator->() const { return object_.get(); }

   private:
    ScratchPool& pool_;
    std::unique_ptr<T> object_;
  };

  // One that nobody uses, or else a new one, from make().
  template <class Make>
  Loan borrow(Make make) {
    std::unique_ptr<T> object;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        object = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (object == nullptr) object = make();
    return Loan(*this, std::move(object));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
};

}  // namespace tenon
