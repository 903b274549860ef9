// SPDX-License-Identifier: Apache-2.0
// Which tensor of a checkpoint is which parameter of a model. One tensor has several spellings: with
// and without the family's prefix, with what training wrappers put in front ("module.",
// "_orig_mod."), and a tied head under the embedding's name, its own, or both.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/weight_files.h"
#include "models/model.h"

namespace tenon {

struct StoredWeights {
  // `files` must outlive what is found.
  static StoredWeights of(Model& model, const WeightFiles& files);

  // The tensor of the parameter at `path`, or nullptr.
  const TensorEntry* find(const std::string& path) const;

  // By the parameter's path; names that no parameter has are there too. Buffers are not.
  std::map<std::string, const TensorEntry*> by_path;
  std::vector<std::string> conflicts;  // tensors under two names that differ, as a message says it
};

// True for tensors that are no weights: buffers which old versions of the libraries stored.
bool is_buffer(const std::string& name);

// Lets the pages of a tensor that was read go, where it lies in its file and is no copy.
void release_pages(const TensorEntry& entry);

}  // namespace tenon
