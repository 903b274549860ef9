// SPDX-License-Identifier: Apache-2.0
// The main job, in the order in which it happens: model, data, agreement of the ranks, run folder,
// training, results.
#pragma once

#include <string>

#include "comm/communicator.h"
#include "train/options.h"

namespace tenon {

// What the caller knows about this process.
struct Machine {
  std::string hostname, build, version, warning;
  int threads = 1;
  int local_rank = 0;   // among the ranks on this machine: which card a rank takes
  int local_ranks = 1;  // on this machine
};

// Runs `tenon finetune` on every rank of `world`. Returns the exit code: 0, or 75 after a signal
// and a saved checkpoint. Throws Error for everything else.
int finetune(const TrainOptions& options, Communicator& world, const Machine& machine);

}  // namespace tenon
