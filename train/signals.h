// SPDX-License-Identifier: Apache-2.0
// How a run is asked to stop, and what its ranks make of it. SIGTERM, SIGINT and SIGHUP, and
// SIGUSR1, SIGUSR2 and SIGXCPU, which schedulers send some time before the end, set a flag that the
// trainer looks at between micro-batches and between validation batches. A second SIGTERM, SIGINT or
// SIGHUP leaves at once with 128 + its number: the last checkpoint stays good.
//
// Open MPI's mpirun ends a job by SIGCONT, SIGTERM and SIGKILL, a second apart by default
// (comm/world.h). Its SIGCONT is taken for a hint that a checkpoint is worth making now, and no more:
// suspended jobs are sent one too.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "comm/communicator.h"

namespace tenon {

enum class Request : int64_t { kNone, kSave, kStop };

// Keeps a SIGUSR1 or SIGUSR2 that comes before install_stop_signals(), instead of dying of it.
void remember_early_requests();
void install_stop_signals();

int stop_signal();  // the number of the first one that asked for a stop, or 0
Request requested();
void save_done();  // a request to save has been met

// The seconds that are left until the launcher kills the process; nothing when it will not, or
// nobody can know.
std::optional<double> seconds_left();

// What is written to stderr the moment that the launcher begins to end the job, as there may be no
// other: "" is nothing. At most 1,000 bytes count.
void set_last_words(const std::string& line);

// What a group of ranks was asked for: the most that one of them was, and the same answer at the same
// place on all of them. A vote travels while the ranks compute, so an answer is one place late; a
// group of one has its own at once.
class Votes {
 public:
  // `requested` says what this rank was asked for.
  Votes(Communicator& group, std::function<Request()> requested)
      : group_(group), requested_(std::move(requested)) {}
  Votes(const Votes&) = delete;
  Votes& operator=(const Votes&) = delete;

  // Collective calls. next() begins a vote; both answer with what the one before has found.
  Request next();
  Request last();

 private:
  Communicator& group_;
  std::function<Request()> requested_;
  int64_t highest_ = 0;
  Work work_;
};

}  // namespace tenon
