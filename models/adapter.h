// SPDX-License-Identifier: Apache-2.0
// LoRA adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, names
// "base_model.model.<path>.lora_A.weight" (R, in) and "...lora_B.weight" (out, R) whatever way the
// base weight lies.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "models/model.h"

namespace tenon {

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  bool rslora = false;               // scale alpha / sqrt(rank) instead of alpha / rank
  std::vector<std::string> targets;  // names or ends of names of linears, or {"all-linear"}
};

// Freezes the base and gives every target a fresh adapter: A uniform in +-1/sqrt(in) (PEFT's
// kaiming_uniform(sqrt 5)), B zero, so that the model computes what it did. Throws Error(kInput)
// for a target that matches nothing, listing the linears there are.
void attach_lora(Model& model, const LoraOptions& options, uint64_t seed);

// Gives `model` the adapter in `folder`, trainable or not. Rank and scale of each module are as its
// config says (rank_pattern, alpha_pattern, use_rslora). Kinds of adapter that Tenon does not
// compute are refused by name. Returns the options that repeat it.
LoraOptions read_adapter(Model& model, const std::filesystem::path& folder, bool trainable);

// Writes the adapter of `model` into `folder` (created). `base` goes into the config as
// base_model_name_or_path.
void write_adapter(Model& model, const std::filesystem::path& folder, const LoraOptions& options,
                   const std::string& base);

// The prefix that PEFT puts before a module's path.
inline constexpr const char* kPeftPrefix = "base_model.model.";

}  // namespace tenon
