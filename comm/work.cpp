// SPDX-License-Identifier: Apache-2.0
#include "comm/work.h"

#include <chrono>
#include <utility>

namespace tenon {

void Completion::finish(std::exception_ptr failure) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (done) return;
  done = true;
  error = std::move(failure);
  changed.notify_all();
}

bool Completion::finished() {
  const std::lock_guard<std::mutex> lock(mutex);
  return done;
}

Work::Work(std::shared_ptr<Completion> completion)
    : completion_(std::move(completion)), exceptions_(std::uncaught_exceptions()) {}

Work& Work::operator=(Work&& other) noexcept {
  if (this != &other) {
    let_go();
    completion_ = std::move(other.completion_);
    exceptions_ = other.exceptions_;
  }
  return *this;
}

Work::~Work() { let_go(); }

void Work::let_go() noexcept {
  if (completion_ == nullptr) return;
  if (std::uncaught_exceptions() > exceptions_) {
    if (!done() && completion_->on_abandon) completion_->on_abandon();
    completion_.reset();
    return;
  }
  try {
    wait();
  } catch (...) {  // the communicator keeps the error for its next call
  }
}

bool Work::done() const { return completion_ == nullptr || completion_->finished(); }

void Work::wait() {
  if (completion_ == nullptr) return;
  const std::shared_ptr<Completion> completion = std::exchange(completion_, nullptr);
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock<std::mutex> lock(completion->mutex);
  const std::chrono::duration<double> limit(completion->limit);
  while (!completion->changed.wait_for(lock, limit, [&] { return completion->done; })) {
    lock.unlock();
    completion->on_limit();
    lock.lock();
  }
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  if (completion->traffic != nullptr) completion->traffic->seconds_waiting += spent.count();
  if (completion->error != nullptr) std::rethrow_exception(completion->error);
}

}  // namespace tenon
