// SPDX-License-Identifier: Apache-2.0
// The mean loss of a model on rows of tokens, shared among ranks; no gradients.
#pragma once

#include <functional>
#include <span>

#include "comm/communicator.h"
#include "models/model.h"
#include "text/data/packing.h"

namespace tenon {

// What the model sees of a batch, and its targets.
struct ModelInput {
  Context context;
  Tensor targets;  // (B, T), on the host
};
ModelInput model_input(const Batch& batch, DType dtype, Device device);

// Rows 0 .. rows - 1, from wherever they come.
struct RowSource {
  int64_t rows = 0;
  std::function<Batch(std::span<const int64_t> rows)> batch;
};
// Requires: `rows` outlives the source.
RowSource source_of(const PackedRows& rows);

struct Evaluation {
  double loss = 0;     // mean over the scored tokens; 0 without any
  int64_t tokens = 0;  // scored
  bool whole = true;   // false: it was stopped, and the rest says nothing
};

// Told after each batch: how many of this rank's rows are done, and their mean loss.
using EvaluationProgress = std::function<void(int64_t done, int64_t rows, double loss)>;

// Asked before each batch, as often on every rank and with the same answer: whether to stop there.
using EvaluationStop = std::function<bool()>;

// A collective call.
Evaluation evaluate(const Model& model, const RowSource& source, Communicator& group,
                    int64_t micro_batch, DType dtype, const EvaluationProgress& progress = {},
                    const EvaluationStop& stop = {});

}  // namespace tenon
