// SPDX-License-Identifier: Apache-2.0
// A rule by which parameters are updated: what it keeps of each, and how it steps. A rule is a file
// in train/rules and a row of kOptimizers (train/choices.h).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/file_memory.h"
#include "core/kernel_table.h"
#include "models/module.h"

namespace tenon {

struct UpdateRule;
extern const UpdateRule kAdamW, kAdamW8bit, kAdafactor, kSgd;

struct OptimizerOptions {
  const UpdateRule* rule = &kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double momentum = 0.9;  // SGD
  double weight_decay = 0;
  bool decay_vectors = false;  // also norms and biases, as PyTorch does without parameter groups
  uint64_t seed = 0;           // of the rounding of bf16 weights
  int64_t least_8bit = 4096;   // AdamW in 8 bits: smaller tensors have moments in fp32
  // Where given, state of 64 KiB and more lies in it instead of in memory.
  std::shared_ptr<FileMemory> state_in;
};

// A tensor that a rule keeps of a parameter; a checkpoint has it as "<parameter>.<suffix>".
struct StateTensor {
  std::string suffix;
  Tensor tensor;
};

// A parameter with its state.
struct OptimizerSlot {
  std::string name;
  Parameter* parameter = nullptr;
  uint32_t number = 0;  // among the model's parameters
  std::vector<StateTensor> state;

  // The state of this suffix; undefined where the rule keeps none.
  Tensor kept(std::string_view suffix) const {
    for (const StateTensor& each : state) {
      if (each.suffix == suffix) return each.tensor;
    }
    return {};
  }
};

// A step of some parameters.
struct UpdateStep {
  const OptimizerOptions& options;
  const KernelTable& kernels;
  std::span<const OptimizerSlot> slots;
  OptimizerList list;  // the slots as kernels see them, where the parameters lie
  GradientScale scale;
  Rounding rounding;
  double lr = 0;
  int64_t number = 1;  // of the step, from 1
};

struct UpdateRule {
  // Zeros, on the parameter's device.
  std::vector<StateTensor> (*state)(const Parameter& parameter, const OptimizerOptions& options);
  void (*step)(const UpdateStep& step);
  bool cuda;  // whether it steps on a card too
};

double weight_decay_of(const Parameter& parameter, const OptimizerOptions& options);

// A state of zeros, shaped as the parameter is, beside it.
StateTensor zero_state(const Parameter& parameter, const char* suffix);

}  // namespace tenon
