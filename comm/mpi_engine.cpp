// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_engine.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/parallel_for.h"

namespace tenon::mpi {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr double kFinishLimit = 60;
constexpr double kLauncherGrace =
    5;  // for a rank that catches the SIGTERM which comes when its launcher dies

}  // namespace

void Engine::start(double seconds) {
  launcher_ = getppid();
  launcher_seen_ = last_look_ = Clock::now();
  // Signals are for the thread that trains; MPI's own threads inherit this mask.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  std::unique_lock<std::mutex> lock(mutex_);
  if (!answer_.wait_for(lock, Seconds(seconds), [&] { return ready_; })) {
    fail(Exit::kPeer,
         "MPI did not start within {} s: not all ranks came, or they cannot reach one another",
         seconds);
  }
  if (broken_ != nullptr) std::rethrow_exception(broken_);
}

void Engine::run() {
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns: by default a sleep of 20 us becomes one of 70
  set_thread_count(1);
  std::exception_ptr error;
  try {
    place_ = wire_start();
    if (place_.tags < 2 * kGroupStep) {
      fail(Exit::kEnvironment, "this MPI has too few tags: expected {}, got {}", 2 * kGroupStep,
           place_.tags);
    }
  } catch (...) {
    error = std::current_exception();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  broken_ = error;
  ready_ = true;
  answer_.notify_all();
  lock.unlock();

  serve();
  wire_finish();
  lock.lock();
  ended_ = true;
  answer_.notify_all();
}

void Engine::submit(SharedOperation operation) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (broken_ != nullptr) return operation->completion->finish(broken_);
  inbox_.push_back(std::move(operation));
  wake_.notify_one();
}

// The rounds. Between two of them the requests of other threads are met.
void Engine::serve() {
  Clock::time_point last_progress = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    watch_own_pauses();
    if (task_ != nullptr) {
      (*task_)();
      task_ = nullptr;
      answer_.notify_all();
    }
    active_.insert(active_.end(), inbox_.begin(), inbox_.end());
    inbox_.clear();
    if (broken_ != nullptr) break_off(broken_);
    if (stop_) return;
    const int abort_code = abort_code_;
    const bool sound = broken_ == nullptr;
    lock.unlock();

    bool progress = false;
    std::exception_ptr error;
    if (abort_code != 0) wire_abort(abort_code);
    try {
      if (sound) progress = drive();
      if (sound) exchange_notes();
    } catch (...) {
      error = std::current_exception();
    }
    watch_launcher();

    lock.lock();
    if (error != nullptr) break_off(error);
    if (progress) {
      last_progress = Clock::now();
    } else {
      pause(lock, Clock::now() - last_progress);
    }
  }
}

// Ends every operation, now and later. Requires: mutex_ is held.
void Engine::break_off(std::exception_ptr error) {
  if (broken_ == nullptr) broken_ = error;
  std::erase(active_, nullptr);
  active_.insert(active_.end(), inbox_.begin(), inbox_.end());
  inbox_.clear();
  for (const SharedOperation& operation : active_) operation->completion->finish(broken_);
  given_up_.insert(given_up_.end(), active_.begin(), active_.end());
  active_.clear();
}

// Gives the core away: at first for an instant, then for an eighth of the time in which nothing has
// happened, so that waiting costs few wake-ups and nothing takes an eighth longer than it must.
void Engine::pause(std::unique_lock<std::mutex>& lock, Clock::duration idle) {
  using std::chrono::microseconds;
  if (!active_.empty() && idle < microseconds(50)) {
    lock.unlock();
    sched_yield();
    lock.lock();
    return;
  }
  // With nothing to do, MPI is still looked after now and then: it may have bytes of its own to
  // pass on, and others may ask after this rank.
  const microseconds longest = active_.empty() ? kLongestPause : microseconds(1000);
  const microseconds wanted = std::chrono::duration_cast<microseconds>(idle / 8);
  wake_.wait_for(lock, std::clamp(wanted, microseconds(20), longest),
                 [&] { return !inbox_.empty() || task_ != nullptr || abort_code_ != 0 || stop_; });
}

// One look at every operation whose turn it is; true when something moved.
bool Engine::drive() {
  if (active_.empty()) return false;
  bool progress = false;
  std::set<std::array<int, 4>> busy;
  for (SharedOperation& operation : active_) {
    if (!busy.insert(operation->lane).second) continue;
    if (!advance(*operation)) continue;
    progress = true;
    if (operation->wire.pending() == 0 && operation->stage == operation->stages.size()) {
      operation->completion->finish();
      operation.reset();
    }
  }
  std::erase(active_, nullptr);
  return progress;
}

bool Engine::advance(Operation& operation) {
  bool progress = false;
  if (!operation.started) {
    operation.started = progress = true;
    operation.stages = operation.plan();
  }
  while (true) {
    if (operation.wire.test() > 0) progress = true;
    if (operation.wire.pending() > 0 || operation.stage == operation.stages.size()) break;
    const Stage& stage = operation.stages[operation.stage];
    const int tag = operation.tag + (operation.stage > 0 ? kDataBit : 0);
    if (stage.before) stage.before();
    for (const Transfer& transfer : stage.transfers) {
      operation.wire.post(transfer, operation.group->members[static_cast<size_t>(transfer.peer)],
                          tag);
    }
    ++operation.stage;
    progress = true;
  }
  if (progress) {
    operation.last_progress = Clock::now();
  } else {
    watch(operation);
  }
  return progress;
}

void Engine::check_alive(const SharedOperation& operation) {
  const auto late = [&] {
    const Clock::time_point seen{Clock::duration(beat_.load())};
    return Clock::now() - seen >= Seconds(operation->limit);
  };
  if (!late()) return;
  std::this_thread::sleep_for(std::chrono::seconds(1));  // both threads may just have been stopped
  if (!late()) return;
  operation->completion->finish(std::make_exception_ptr(
      Error(Exit::kPeer,
            fmt::format("[comm] {}: MPI has not returned for {} s on rank {} ({})",
                        text(operation->signature), operation->limit, place_.rank, host()))));
}

// Ranks must not outlive their launcher: nobody is left to end them.
void Engine::watch_launcher() {
  const Clock::time_point now = Clock::now();
  if (now - last_look_ < std::chrono::seconds(1)) return;
  last_look_ = now;
  if (getppid() == launcher_) {
    launcher_seen_ = now;
  } else if (now - launcher_seen_ > Seconds(kLauncherGrace)) {
    _exit(static_cast<int>(Exit::kPeer));
  }
}

bool Engine::ask(const std::function<void()>& task, double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto limit = Clock::now() + std::chrono::duration_cast<Clock::duration>(Seconds(seconds));
  if (!answer_.wait_until(lock, limit, [&] { return task_ == nullptr; })) return false;
  task_ = &task;
  wake_.notify_one();
  const bool done = answer_.wait_until(lock, limit, [&] { return task_ == nullptr; });
  task_ = nullptr;  // tasks run under the lock, so this one has not begun
  return done;
}

void Engine::halt(const std::string& why) {
  ask([&] { break_off(std::make_exception_ptr(Error(Exit::kPeer, why))); }, 1.0);
}

void Engine::finish() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (ended_) return;
  stop_ = true;
  if (broken_ == nullptr)
    broken_ = std::make_exception_ptr(Error(Exit::kInternal, "[comm] MPI has been finished"));
  wake_.notify_one();
  if (!answer_.wait_for(lock, Seconds(kFinishLimit), [&] { return ended_; })) {
    fail(Exit::kPeer, "[comm] MPI did not finish within {} s on rank {} ({})", kFinishLimit,
         place_.rank, host());
  }
  lock.unlock();
  thread_.join();
}

void Engine::take_group(int64_t number) {
  if (number >= place_.tags / kGroupStep) {
    fail(Exit::kEnvironment, "[comm] this MPI has tags for {} groups of ranks only",
         place_.tags / kGroupStep - 1);
  }
  free_group_ = number + 1;
}

bool Engine::claim_report() {
  // Where operations were given up, their memory is gone and MPI must not move messages any more.
  // The wait is then as long as a launcher takes to end this rank after rank 0 has spoken.
  bool sound = true, taken = false;
  const auto look = [&] {
    sound = broken_ == nullptr;
    taken = sound && wire_noted(kReportTag);
  };
  const auto speak = [&] {
    for (int r = 0; sound && r < place_.size; ++r) {
      if (r != place_.rank) wire_note(r, kReportTag, "");
    }
  };
  const Clock::time_point begin = Clock::now();
  do {
    if (!ask(look, 1.0) || taken) return !taken;
    if (place_.rank == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  } while (Clock::now() - begin < std::chrono::milliseconds(sound ? 300 : 2500));
  ask(speak, 1.0);
  return true;
}

void Engine::abort(int code, double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  abort_code_ = code;
  wake_.notify_one();
  answer_.wait_for(lock, Seconds(seconds), [] { return false; });
}

}  // namespace tenon::mpi
