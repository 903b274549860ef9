// SPDX-License-Identifier: Apache-2.0
// LoRA adapters in PEFT's layout: adapter_config.json and adapter_model.safetensors, names
// "base_model.model.<path>.lora_A.weight" (R, in) and "...lora_B.weight" (out, R) whatever way the
// base weight lies. Beside the low-rank factors an adapter may hold a bias of B, DoRA's magnitudes,
// and values of its own for whole modules and biases of the base.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "models/model.h"

namespace tenon {

// What PEFT's LoraConfig says. A name is the whole path of a module or its end after a dot; a
// pattern is a regular expression that a whole path must match.
struct LoraOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  bool rslora = false;                      // scale alpha / sqrt(rank) instead of alpha / rank
  std::vector<std::string> targets;         // names of linears, or {"all-linear"}
  std::string target_pattern;               // instead of `targets`
  std::vector<std::string> exclude;         // names of linears that are none after all
  std::string exclude_pattern;              // instead of `exclude`
  std::vector<int64_t> layers;              // blocks whose linears are meant; empty: all
  std::vector<std::string> layers_pattern;  // name of the list of blocks; empty: any
  std::vector<std::pair<std::string, int64_t>> ranks;  // of modules, by pattern of a path's end
  std::vector<std::pair<std::string, double>> alphas;  // likewise
  bool dora = false;                                   // rows' lengths are trained apart
  bool lora_bias = false;                              // B has a bias
  std::string bias = "none";                           // biases of the base trained: none, all, or
                                                       // lora_only, those of adapted linears
  std::vector<std::string> modules_to_save;            // ends of paths of modules trained whole
  bool tie_saved = false;  // ensure_weight_tying: a tied head in modules_to_save stays tied
};

// Freezes the base and gives every target a fresh adapter: A uniform in +-1/sqrt(in) (PEFT's
// kaiming_uniform(sqrt 5)), B zero, magnitudes the rows' lengths, so that the model computes what it
// did. Throws Error(kInput) for a name that matches nothing, listing the modules there are.
// Requires: the weights are read.
void attach_lora(Model& model, const LoraOptions& options, uint64_t seed);

// Gives `model` the adapter in `folder`, trainable or not. What is trained is what the config says;
// what the file carries beside it is read and stays frozen. Kinds of adapter that Tenon does not
// compute are refused by name. Returns the options that repeat it. Requires: the weights are read.
LoraOptions read_adapter(Model& model, const std::filesystem::path& folder, bool trainable);

// Writes the adapter of `model` into `folder` (created). `base` goes into the config as
// base_model_name_or_path.
void write_adapter(Model& model, const std::filesystem::path& folder, const LoraOptions& options,
                   const std::string& base);

// The prefix that PEFT puts before a module's path.
inline constexpr const char* kPeftPrefix = "base_model.model.";

}  // namespace tenon
