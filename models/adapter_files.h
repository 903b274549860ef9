// SPDX-License-Identifier: Apache-2.0
// adapter_model.safetensors, or the older adapter_model.bin: parameters under PEFT's names.
#pragma once

#include <map>
#include <set>

#include "core/tensor_file.h"
#include "models/model.h"

namespace tenon {

// An adapter's tensors by the paths that Tenon's parameters have. Other tools drop PEFT's prefix or
// keep the adapter's name ("default") before ".weight": both are understood, as are the names that
// PEFT's wrappers insert ("base_layer", "modules_to_save").
class AdapterFile {
 public:
  // Takes safetensors before .bin. Throws Error(kInput).
  static AdapterFile open(const std::filesystem::path& folder);

  // The parameters of the base, a tied head included, that the file has values for.
  std::set<std::string> base_names(Model& model) const;

  // Every tensor that does not fit `model`, whose adapter has its shape: missing, misshapen,
  // unexpected; "" where all fit.
  std::string problems(Model& model) const;

  // Gives each parameter that belongs to the adapter, or is marked saved, its value in fp32. Throws
  // Error(kInput) naming all problems.
  void load(Model& model) const;

  const TensorEntry* find(const std::string& path) const;
  const std::vector<TensorEntry>& entries() const { return file_.entries(); }
  // By path, without those that repeat what the base has.
  const std::map<std::string, const TensorEntry*>& tensors() const { return tensors_; }
  int64_t elements() const;  // of them

 private:
  explicit AdapterFile(TensorFile file) : file_(std::move(file)) {}
  TensorFile file_;
  std::map<std::string, const TensorEntry*> tensors_;  // by path
};

// Writes all values that belong to the adapter of `model` as fp32.
void write_adapter_weights(Model& model, const std::filesystem::path& folder);

}  // namespace tenon
