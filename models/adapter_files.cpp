// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_files.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "models/adapter.h"
#include "models/adapter_rules.h"
#include "models/weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr const char* kTorchName = "adapter_model.bin";

void remove_all(std::string& text, const std::string& part, const std::string& by) {
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += by.size())
    text.replace(at, part.size(), by);
}

// A tensor's path: its name without what PEFT and other tools wrap around the model's own names.
std::string plain_name(std::string name) {
  if (name.starts_with(kPeftPrefix)) name.erase(0, std::string(kPeftPrefix).size());
  remove_all(name, ".modules_to_save.default.", ".");
  remove_all(name, ".modules_to_save.", ".");
  remove_all(name, ".base_layer.", ".");
  for (const char* part : {"lora_A", "lora_B", "lora_magnitude_vector"})
    remove_all(name, fmt::format(".{}.default", part), fmt::format(".{}", part));
  const std::string magnitude = ".lora_magnitude_vector";
  if (name.ends_with(magnitude + ".weight"))
    name.erase(name.size() - std::string(".weight").size());
  return name;
}

// Copies of what the base has, which PEFT writes beside trained values.
bool repeats_base(const std::string& name) {
  return name.find(".original_module.") != std::string::npos ||
         name.ends_with(".base_layer.weight");
}

// A module that is saved has its values under its own name, and may have them once more under the
// wrapper's.
bool is_second_name(const std::string& name) {
  return name.find(".modules_to_save.") != std::string::npos;
}

}  // namespace

AdapterFile AdapterFile::open(const fs::path& folder) {
  const bool torch = !files::exists(folder / kWeightsName) && files::exists(folder / kTorchName);
  const fs::path path = folder / (torch ? kTorchName : kWeightsName);
  AdapterFile adapter(TensorFile::open(path));
  const std::vector<TensorEntry>& entries = adapter.entries();
  for (const bool second : {false, true}) {
    for (const TensorEntry& entry : entries) {
      if (repeats_base(entry.name) || is_second_name(entry.name) != second) continue;
      const std::string name = plain_name(entry.name);
      if (!adapter.tensors_.emplace(name, &entry).second && !second)
        fail_input("{}: {} is there twice", shown(path), printable(name));
    }
  }
  return adapter;
}

const TensorEntry* AdapterFile::find(const std::string& path) const {
  const auto found = tensors_.find(path);
  return found == tensors_.end() ? nullptr : found->second;
}

int64_t AdapterFile::elements() const {
  int64_t count = 0;
  for (const auto& [path, entry] : tensors_) count += entry->elements();
  return count;
}

std::set<std::string> AdapterFile::base_names(Model& model) const {
  std::set<std::string> names;
  if (find(kHeadWeight) != nullptr) names.insert(kHeadWeight);
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.adapter && find(path) != nullptr) names.insert(path);
  });
  return names;
}

std::string AdapterFile::problems(Model& model) const {
  std::string problems;
  size_t more = 0;
  const auto problem = [&](const std::string& text) {
    constexpr size_t kShown = 4000;
    if (problems.size() > kShown) {
      ++more;
    } else {
      problems += (problems.empty() ? "" : "; ") + text;
    }
  };
  std::set<std::string> used;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.adapter && !parameter.saved) return;
    const TensorEntry* entry = find(path);
    if (entry == nullptr) return problem(fmt::format("{} is missing", path));
    used.insert(path);
    if (!has_shape(*entry, parameter.shape)) {
      return problem(
          fmt::format("{} is {}, expected {}", path, shape_text(*entry), parameter.shape.text()));
    }
    if (!entry->dtype || !is_float(*entry->dtype)) {
      problem(fmt::format("{} has dtype {}, expected F32, F16 or BF16", path, entry->dtype_name));
    }
  });
  for (const auto& [path, entry] : tensors_) {
    if (!used.contains(path)) problem(fmt::format("{} is unexpected", printable(path)));
  }
  return more == 0 ? problems : fmt::format("{} (and {} more)", problems, more);
}

void AdapterFile::load(Model& model) const {
  if (const std::string text = problems(model); !text.empty()) {
    fail_input("{}: the adapter does not fit this model: {}", shown(file_.file()->path()), text);
  }
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter || parameter.saved)
      parameter.value = own_fp32(*find(path), parameter.shape);
  });
}

void write_adapter_weights(Model& model, const fs::path& folder) {
  std::set<std::string> wrapped;  // biases of linears that PEFT wraps
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (linear.lora && linear.bias) wrapped.insert(path + ".bias");
  });
  std::vector<Tensor> values;  // keeps the bytes alive until they are written
  std::vector<TensorToWrite> tensors;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.adapter && !parameter.saved) return;
    values.push_back(parameter.value.to(Device::kCPU));
    std::string name = kPeftPrefix + path;
    if (wrapped.contains(path)) name.insert(name.rfind('.'), ".base_layer");
    std::vector<int64_t> dims;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) dims.push_back(parameter.shape[axis]);
    tensors.push_back({std::move(name), DType::kF32, std::move(dims), values.back().raw()});
  });
  write_safetensors(folder / kWeightsName, tensors);
}

}  // namespace tenon
