// SPDX-License-Identifier: Apache-2.0
// adapter_config.json as PEFT writes it, to options and back.
#pragma once

#include "models/adapter.h"

namespace tenon {

struct AdapterConfig {
  LoraOptions options;
  std::string base;   // base_model_name_or_path, or ""
  std::string where;  // the file, for messages
};

// Throws Error(kInput) naming file and field; kinds of adapter that Tenon does not compute are
// refused by the field that asks for them.
AdapterConfig read_adapter_config(const std::filesystem::path& folder);

// Writes the config of the adapter that `model` has. Ranks and alphas that a module has to itself go
// in under its path. Old versions of PEFT refuse names that they do not know, so what PEFT 0.6 does
// not is written where it says something only.
void write_adapter_config(Model& model, const std::filesystem::path& folder,
                          const LoraOptions& options, const std::string& base);

// PEFT's scale of a module's adapter.
double lora_scale(double alpha, int64_t rank, bool rslora);

}  // namespace tenon
