// SPDX-License-Identifier: Apache-2.0
// The start of a run: what it works on, read by every rank and agreed on.
#pragma once

#include <functional>
#include <optional>

#include "comm/communicator.h"
#include "train/identity.h"
#include "train/job.h"
#include "train/plan.h"
#include "train/run_folder.h"
#include "train/token_cache.h"

namespace tenon {

// Where a rank runs.
struct Place {
  int local_rank = 0, local_ranks = 1;  // among the ranks on its node
  int64_t memory = 0;                   // bytes that it may take there
};

struct Input {
  Job job;
  std::optional<RunFolder> folder;
  std::optional<TokenCache> cache;
  Contents contents;
  std::optional<Plan> plan;          // on rank 0, of a run on CPUs
  std::optional<MemoryLimit> limit;  // where --memory names one
};

// Collective: model and data on every rank; rank 0 tokenizes, and ranks that do not see its files do
// so again. Where a chat template asks what day it is, all are told the same: that of the run which
// is gone on with, or rank 0's.
// Before weights are read the run is planned, and what is "auto" settled, within the rank's
// memory: throws Error(kMemory) on all ranks where it does not fit, and rank 0 tells what would.
void read_all(const TrainOptions& options, Communicator& world, Device device, const Place& place,
              Input& in);

// Runs `work`, in which no rank talks to another, on every rank. Where it fails on any of them, all
// ranks fail: rank 0 leaves no run folder behind, and the first rank that failed reports its error.
void all_or_none(Communicator& world, std::optional<RunFolder>& folder,
                 const std::function<void()>& work);

}  // namespace tenon
