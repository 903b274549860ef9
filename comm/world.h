// SPDX-License-Identifier: Apache-2.0
// The job that this process is a rank of: alone when it was started plainly (MPI is then never
// called), one of many under mpirun or srun. A tool holds one World for as long as it works.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "comm/communicator.h"
#include "core/error.h"

namespace tenon {

class World {
 public:
  // Finds out how the process was started, and joins the others.
  // Throws Error(kEnvironment) with advice when the launcher and this build do not fit together.
  static World start();
  World(World&&) = default;
  // Finishes, unless an exception is under way: the tool then calls abort().
  ~World();

  Communicator& communicator() const { return *communicator_; }  // all ranks
  int rank() const { return communicator_->rank(); }
  int size() const { return communicator_->size(); }
  const std::string& hostname() const { return hostname_; }
  int local_rank() const { return local_rank_; }  // among the ranks on this machine
  int local_size() const { return local_size_; }

  // The threads that this rank should compute with (set_thread_count): OMP_NUM_THREADS where it is
  // set, else its share of the cores that it may run on, divided among the ranks that have the same
  // ones, and at most SLURM_CPUS_PER_TASK.
  int threads_for_rank() const { return threads_; }
  // On rank 0: one line for the user when cores lie idle or are shared, or "".
  const std::string& warning() const { return warning_; }

  // Waits for all ranks, then ends MPI. Communicators are of no use after this.
  void finish();

  // Ends the whole job with this exit code, from any state and within seconds, whatever the other
  // ranks do. Prints `line` to stderr first, unless another rank has begun to report an error: of
  // ranks that fail alike one is heard. With an empty line (see agree.h) another rank is given the
  // time to do all this.
  [[noreturn]] static void abort(Exit code, std::string_view line);

  // The same for an error that came before start(), such as a wrong option: the ranks of a job that
  // all meet it end together, and one of them prints the line. Returns where the process is alone, or
  // cannot reach the others, after printing it.
  static void report(Exit code, std::string_view line);

  // The number that the launcher's environment gives this process; 0 where it was started plainly.
  static int launcher_rank();

 private:
  World() = default;
  void take_seat();

  std::unique_ptr<Communicator> communicator_;
  std::string hostname_, warning_;
  int local_rank_ = 0, local_size_ = 1, threads_ = 1;
  bool finished_ = false;
};

// The seconds between the SIGTERM and the SIGKILL by which the parent ends its ranks, where that is
// Open MPI's mpirun or its daemon (a SIGCONT comes as long before the SIGTERM): its
// odls_base_sigkill_timeout, 1 unless set. Nothing under other parents.
std::optional<double> launcher_grace();

}  // namespace tenon
