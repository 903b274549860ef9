// SPDX-License-Identifier: Apache-2.0
// adapter_model.safetensors, or the older adapter_model.bin: parameters under PEFT's names.
#pragma once

#include <map>
#include <string>

#include "core/tensor_file.h"
#include "models/model.h"

namespace tenon {

// An adapter's tensors by the paths that Tenon's parameters have. Other tools drop PEFT's prefix or
// keep the adapter's name ("default") before ".weight": both are understood, as are the names that
// PEFT's wrappers insert ("base_layer", "modules_to_save", "original_module").
class AdapterFile {
 public:
  // Takes safetensors before .bin. Throws Error(kInput).
  static AdapterFile open(const std::filesystem::path& folder);

  // The modules that there are factors for, and their ranks.
  std::map<std::string, int64_t> ranks() const;

  // Gives every name the parameter that PEFT gives it where a head and an embedding are, or were,
  // one: PEFT fills `model` in the order of its modules, and the last value stays. `tied` is the
  // embedding's path where the base ties its head, else "".
  void settle_tied(Model& model, const std::string& tied);

  // Gives each parameter of the adapter, or that is trained with it, its value in fp32, and each
  // other one that there is a value for that value, as carried. Throws Error(kInput) naming every
  // tensor that is missing, misshapen or unexpected.
  void load(Model& model) const;

  const TensorEntry* find(const std::string& path) const;
  const std::vector<TensorEntry>& entries() const { return file_.entries(); }
  // By path, without what PEFT keeps of a module before it was trained.
  const std::map<std::string, const TensorEntry*>& tensors() const { return tensors_; }
  int64_t elements() const;  // of them

 private:
  explicit AdapterFile(TensorFile file) : file_(std::move(file)) {}
  std::string problems(Model& model) const;

  TensorFile file_;
  std::map<std::string, const TensorEntry*> tensors_, originals_;  // by path
};

// Writes all values that belong to the adapter of `model` as fp32, and what it carries as it was.
void write_adapter_weights(Model& model, const std::filesystem::path& folder);

}  // namespace tenon
