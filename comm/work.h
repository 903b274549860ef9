// SPDX-License-Identifier: Apache-2.0
// Work is an operation under way between ranks. The memory given to the operation belongs to it
// until wait() returns; the communicator outlives it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

namespace tenon {

// What a communicator has done so far.
struct Traffic {
  double seconds_waiting = 0;  // this rank stood still in wait() and in blocking calls
  int64_t bytes = 0;           // of the buffers that it passed; 0 in a group of one
  int64_t operations = 0;
};

// What an implementation and the Work it handed out share: the implementation calls finish() once,
// from any thread.
struct Completion {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr error;
  std::shared_ptr<Traffic> traffic;
  double limit = 0;                  // seconds that wait() stands still before it calls on_limit
  std::function<void()> on_limit;    // calls finish() with an error when the operation is lost
  std::function<void()> on_abandon;  // makes sure that nobody touches the memory any more

  void finish(std::exception_ptr failure = nullptr);
  bool finished();
};

class [[nodiscard]] Work {
 public:
  Work() = default;  // done
  explicit Work(std::shared_ptr<Completion> completion);
  Work(Work&& other) noexcept = default;
  Work& operator=(Work&& other) noexcept;  // waits for what it held, as the destructor does
  // Waits. An error is not lost: every later call on the communicator throws it. Where an exception
  // is under way the other ranks may never come, so the operation is given up instead, and the
  // communicator with it.
  ~Work();

  // Returns when the operation is complete on this rank; a second call returns at once.
  // Throws Error(kPeer) when a peer was lost or the time limit passed, Error(kEnvironment) when
  // ranks disagree.
  void wait();
  bool done() const;

 private:
  void let_go() noexcept;

  std::shared_ptr<Completion> completion_;
  int exceptions_ = 0;  // under way when the operation began
};

}  // namespace tenon
