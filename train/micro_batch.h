// SPDX-License-Identifier: Apache-2.0
// One micro-batch of training: forward, loss, backward. What the trainer does, and a dry run of it.
#pragma once

#include "parallel/strategy.h"
#include "train/evaluation.h"
#include "train/in_backward.h"
#include "train/options.h"

namespace tenon {

struct MicroBatch {
  const Batch& batch;
  uint32_t step = 0;
  uint64_t sequence0 = 0;  // number in the step of the first of its sequences
  double scale = 1;        // of the summed losses
  bool last = false;       // of the step's
};

// What all micro-batches of a run have in common.
struct MicroBatches {
  const TrainOptions& options;
  Model& model;
  Strategy& strategy;
  InBackward* in_backward;  // or null
};

// The gradients are added to those that are there.
LossSum run_micro_batch(const MicroBatches& all, const MicroBatch& one);

}  // namespace tenon
