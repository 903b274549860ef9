// SPDX-License-Identifier: Apache-2.0
// What a run takes, known before it is begun: the run itself is made on a device that only counts
// (core/counting.h), with the model, the method, the optimizer and the step that it has in earnest.
// On CPUs.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/counting.h"
#include "train/options.h"

namespace tenon {

struct Ranks {
  int all = 1, local = 1;  // of the job, on a node
};

// Of one rank. Bytes.
struct Plan {
  std::array<int64_t, kMemoryKinds> parts{};  // by MemoryKind, when their sum is at its peak
  int64_t allocated = 0;                      // that peak
  int64_t resident = 0;  // of the system's memory that it takes: idle bytes between tensors too
  int64_t program = 0;   // what the process holds besides
  // Pages of mapped files that a step wants in memory: the base, or of a streamed one two blocks and
  // what belongs to none.
  int64_t mapped = 0;
  int64_t streamed = 0;  // of the files: what is mapped anew in each pass
  int64_t sharers = 1;   // ranks of a node, which have the same pages of files
  int64_t need() const { return program + resident + mapped / sharers; }

  double step_seconds = 0;  // 0 without rates; without waiting for other ranks
  int64_t micro_batch = 1, sequences = 1, seq_len = 1;  // of a step of this rank
  int64_t parameters = 0, trained = 0;
  std::string family;
};

// The plan of `options`, whose "auto" values count as map, none and micro_batch_of(). --model may be
// a config.json. Throws Error(kInput).
Plan dry_run(const TrainOptions& options, Ranks ranks, Rates rates = {});

// How fast this rank multiplies in the precision of `options`, and moves bytes: measured, in about a
// tenth of a second.
Rates measure_rates(const TrainOptions& options);

// What could be otherwise, as options, so that a run takes less.
struct Change {
  std::string text;  // "--checkpoint-activations all"
  Plan plan;
};

// The options with --weights and --checkpoint-activations as they are where memory asks for nothing.
TrainOptions without_auto(TrainOptions options);

struct Settled {
  TrainOptions options;  // without "auto": --weights, --micro-batch, --checkpoint-activations
  Plan plan;
  bool fits = true;
  std::vector<Change> changes;  // where it does not: what would fit, the quickest first
};
// Settles "auto" so that the run fits into `budget` bytes in the least time: as it is where it fits.
Settled settle(const TrainOptions& options, Ranks ranks, int64_t budget);

// A table of what the plan needs and what there is; and of what would fit.
std::string plan_text(const Plan& plan, int64_t budget);
std::string changes_text(const Settled& settled);

}  // namespace tenon
