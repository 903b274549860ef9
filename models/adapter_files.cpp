// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_files.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "models/adapter.h"
#include "models/weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr const char* kTorchName = "adapter_model.bin";
constexpr const char* kOriginal = ".original_module.";

void remove_all(std::string& text, const std::string& part, const std::string& by) {
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += by.size())
    text.replace(at, part.size(), by);
}

// A tensor's path: its name without what PEFT and other tools wrap around the model's own names.
std::string plain_name(std::string name) {
  if (name.starts_with(kPeftPrefix)) name.erase(0, std::string(kPeftPrefix).size());
  remove_all(name, ".modules_to_save.default.", ".");
  remove_all(name, ".modules_to_save.", ".");
  remove_all(name, kOriginal, ".");
  remove_all(name, ".base_layer.", ".");
  for (const char* part : {"lora_A", "lora_B", "lora_magnitude_vector"})
    remove_all(name, fmt::format(".{}.default", part), fmt::format(".{}", part));
  const std::string magnitude = ".lora_magnitude_vector";
  if (name.ends_with(magnitude + ".weight"))
    name.erase(name.size() - std::string(".weight").size());
  return name;
}

// What a module was before it was trained as a whole.
bool is_original(const std::string& name) { return name.find(kOriginal) != std::string::npos; }

// A module that is saved has its values under its own name, and may have them once more under the
// wrapper's.
bool is_second_name(const std::string& name) {
  return name.find(".modules_to_save.") != std::string::npos;
}

// Why an embedding or a head may have another number of rows than the base's.
std::string about_rows(const Model& model, const TensorEntry& entry, const Shape& shape) {
  const bool resized = shape.rank() == 2 && shape[0] == model.vocabulary() &&
                       entry.shape.size() == 2 && entry.shape[1] == shape[1];
  if (!resized) return "";
  return fmt::format(
      " (the adapter was made with a vocabulary resized to {} entries: give the base as many with "
      "resize_token_embeddings and save it, and take that as the model)",
      entry.shape[0]);
}

}  // namespace

AdapterFile AdapterFile::open(const fs::path& folder) {
  const bool torch = !files::exists(folder / kWeightsName) && files::exists(folder / kTorchName);
  const fs::path path = folder / (torch ? kTorchName : kWeightsName);
  AdapterFile adapter(TensorFile::open(path));
  const std::vector<TensorEntry>& entries = adapter.entries();
  for (const bool second : {false, true}) {
    for (const TensorEntry& entry : entries) {
      if (is_second_name(entry.name) != second) continue;
      const std::string name = plain_name(entry.name);
      auto& tensors = is_original(entry.name) ? adapter.originals_ : adapter.tensors_;
      if (!tensors.emplace(name, &entry).second && !second)
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

std::map<std::string, int64_t> AdapterFile::ranks() const {
  std::map<std::string, int64_t> ranks;
  for (const auto& [suffix, axis] : {std::pair{".lora_A.weight", 0}, {".lora_B.weight", 1}}) {
    for (const auto& [path, entry] : tensors_) {
      if (!path.ends_with(suffix) || entry->shape.size() != 2) continue;
      const int64_t rank = entry->shape[static_cast<size_t>(axis)];
      if (rank > 0)
        ranks.emplace(path.substr(0, path.size() - std::string_view(suffix).size()), rank);
    }
  }
  return ranks;
}

void AdapterFile::settle_tied(Model& model, const std::string& tied) {
  if (tied.empty()) return;
  const auto give = [](auto& to, const std::string& path, const auto& from,
                       const std::string& name) {
    const auto found = from.find(name);
    if (found != from.end()) to.insert_or_assign(path, found->second);
    return found != from.end();
  };
  if (has_tied_head(model)) {
    if (give(tensors_, tied, tensors_, kHeadWeight)) tensors_.erase(kHeadWeight);
    return;
  }
  bool trains_embedding = false, trains_head = false;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (path == tied) trains_embedding = parameter.saved;
    if (path == kHeadWeight) trains_head = parameter.saved;
  });
  // The one that is not trained is what the other was before.
  if (!trains_head && find(kHeadWeight) == nullptr) give(tensors_, kHeadWeight, originals_, tied);
  if (!trains_embedding) give(tensors_, tied, originals_, kHeadWeight);
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
    const TensorEntry* entry = find(path);
    if (entry == nullptr) {
      if (parameter.adapter || parameter.saved) problem(fmt::format("{} is missing", path));
      return;
    }
    used.insert(path);
    if (!has_shape(*entry, parameter.shape)) {
      return problem(fmt::format("{} is {}, expected {}{}", path, shape_text(*entry),
                                 parameter.shape.text(),
                                 about_rows(model, *entry, parameter.shape)));
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
    const TensorEntry* entry = find(path);
    if (entry == nullptr) return;
    const bool trained = parameter.adapter || parameter.saved;
    if (!trained) parameter.carried = stored_tensor(*entry, parameter.shape);
    parameter.quantized = {};
    parameter.value =
        trained || parameter.vector ? own(*entry, parameter.shape, DType::kF32) : parameter.carried;
  });
}

void write_adapter_weights(Model& model, const fs::path& folder) {
  std::set<std::string> wrapped;  // parameters of linears that PEFT wraps
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (linear.lora) wrapped.insert({path + ".weight", path + ".bias"});
  });
  const std::string tied = tied_path(model);
  std::vector<Tensor> values;  // keeps the bytes alive until they are written
  std::vector<TensorToWrite> tensors;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    const bool carried = parameter.carried.defined();
    if (!parameter.adapter && !parameter.saved && !carried) return;
    values.push_back(carried ? parameter.carried : parameter.value.to(Device::kCPU));
    std::string name = kPeftPrefix + path;
    if (wrapped.contains(path)) name.insert(name.rfind('.'), ".base_layer");
    std::vector<int64_t> dims;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) dims.push_back(parameter.shape[axis]);
    tensors.push_back(
        {std::move(name), values.back().dtype(), std::move(dims), values.back().raw()});
    if (path != tied) return;
    tensors.push_back(tensors.back());  // as PEFT does, under both names
    tensors.back().name = std::string(kPeftPrefix) + kHeadWeight;
  });
  write_safetensors(folder / kWeightsName, tensors);
}

}  // namespace tenon
