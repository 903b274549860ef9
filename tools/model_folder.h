// SPDX-License-Identifier: Apache-2.0
// What the commands share that write a model's folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "tools/flags.h"

namespace tenon {

// Where a model is written, and how.
struct ModelOut {
  std::string folder;
  int64_t shard_bytes = 0;
  bool force = false;
};

// Adds --out, --max-shard-size and --force.
void add_model_out(const Flags& flags, ModelOut& out);

// Throws Error(kInput) where --out is or holds one of `inputs`, or holds something and --force was
// not given or would remove more than a model.
void check_model_out(const ModelOut& out, const std::vector<std::filesystem::path>& inputs);

// Makes --out what `fill(folder)` writes: complete, or as it was.
void write_model_out(const ModelOut& out,
                     const std::function<void(const std::filesystem::path&)>& fill);

// A tensor's bytes as they lie in its file, whose pages are given back when they were written.
TensorToWrite as_stored(const TensorEntry& entry);

}  // namespace tenon
