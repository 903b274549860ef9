// SPDX-License-Identifier: Apache-2.0
#include "models/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/error.h"
#include "core/files.h"
#include "core/parallel_for.h"
#include "core/weight_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Whether `data` may be read in place as elements of this dtype.
bool aligned(const TensorEntry& entry) {
  return reinterpret_cast<uintptr_t>(entry.data) % static_cast<uintptr_t>(size_of(*entry.dtype)) ==
         0;
}

// The stored bytes as a tensor: in place where they are aligned, else a copy.
Tensor stored(const TensorEntry& entry, const Shape& shape) {
  if (aligned(entry)) return Tensor::borrow(entry.data, shape, *entry.dtype, entry.file);
  Tensor copy = Tensor::empty(shape, *entry.dtype, MemoryKind::kWeights);
  std::memcpy(copy.raw(), entry.data, static_cast<size_t>(entry.bytes));
  return copy;
}

void read_parameter(Parameter& parameter, const TensorEntry& entry) {
  // Vectors are small, and copies of them do not keep a file mapped whose matrices were converted.
  if (parameter.trainable || parameter.vector) {
    parameter.value = own_fp32(entry, parameter.shape);
  } else {
    parameter.value = stored(entry, parameter.shape);
  }
  if (parameter.trainable) require_grad(parameter.value);
}

// "a is missing; b is missing (and 3 more)"
std::string listed(const std::vector<std::string>& items, const char* what) {
  constexpr size_t kShown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kShown); ++i) {
    text += fmt::format("{}{}{}", text.empty() ? "" : "; ", printable(items[i], 200), what);
  }
  if (items.size() > kShown) text += fmt::format(" (and {} more)", items.size() - kShown);
  return text;
}

std::string joined(std::initializer_list<std::string> parts) {
  std::string text;
  for (const std::string& part : parts) {
    if (!part.empty()) text += (text.empty() ? "" : "; ") + part;
  }
  return text;
}

// A tied head may be stored as well; transformers would untie it where it differs, which is not the
// model asked for.
bool repeats_tied_head(const Model& model, const TensorEntry& head, const TensorEntry* embedding) {
  return embedding != nullptr && has_shape(head, model.head().shape) &&
         head.dtype == embedding->dtype && head.bytes == embedding->bytes &&
         std::memcmp(head.data, embedding->data, static_cast<size_t>(head.bytes)) == 0;
}

}  // namespace

bool has_shape(const TensorEntry& entry, const Shape& shape) {
  if (static_cast<int>(entry.shape.size()) != shape.rank()) return false;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (entry.shape[static_cast<size_t>(axis)] != shape[axis]) return false;
  }
  return true;
}

std::string shape_text(const TensorEntry& entry) {
  std::string text = "[";
  for (const int64_t extent : entry.shape)
    text += fmt::format("{}{}", text.size() == 1 ? "" : ", ", extent);
  return text + "]";
}

Tensor own_fp32(const TensorEntry& entry, const Shape& shape) {
  const Tensor tensor = stored(entry, shape);
  return tensor.dtype() == DType::kF32 ? tensor.clone(MemoryKind::kWeights)
                                       : cast(tensor, DType::kF32, MemoryKind::kWeights);
}

LoadedWeights load_weights(Model& model, const fs::path& folder) {
  const WeightFiles files = WeightFiles::open(folder);
  const std::string prefix = model.optional_prefix();
  // A name as the model has it, whether or not the file leaves the prefix out.
  const auto full_name = [&](const std::string& name) {
    return name.starts_with(prefix) || name == "lm_head.weight" ? name : prefix + name;
  };
  std::map<std::string, const TensorEntry*> unused;
  std::vector<std::string> missing, wrong;
  for (const TensorFile& file : files.files()) {
    for (const TensorEntry& entry : file.entries()) {
      if (model.ignorable(entry.name)) continue;
      const std::string name = full_name(entry.name);
      if (!unused.emplace(name, &entry).second)
        wrong.push_back(fmt::format("{} is there twice, with and without \"{}\"", name, prefix));
    }
  }
  LoadedWeights loaded{.file = shown(files.source())};
  const TensorEntry* head = nullptr;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    const auto found = unused.find(path);
    if (found == unused.end()) return missing.push_back(path);
    const TensorEntry& entry = *found->second;
    unused.erase(found);
    if (!has_shape(entry, parameter.shape)) {
      return wrong.push_back(
          fmt::format("{} is {}, expected {}", path, shape_text(entry), parameter.shape.text()));
    }
    if (!entry.dtype || !is_float(*entry.dtype)) {
      return wrong.push_back(
          fmt::format("{} has dtype {}, expected F32, F16 or BF16", path, entry.dtype_name));
    }
    if (&parameter == &model.head()) {
      head = &entry;
      loaded.dtype = *entry.dtype;
    }
    read_parameter(parameter, entry);
  });
  if (const auto tied = unused.find("lm_head.weight"); tied != unused.end()) {
    if (repeats_tied_head(model, *tied->second, head)) {
      unused.erase(tied);
    } else {
      wrong.push_back(
          "lm_head.weight differs from the token embedding, though tie_word_embeddings is true");
    }
  }
  std::vector<std::string> unexpected;
  for (const auto& [name, entry] : unused) {
    if (name != "lm_head.weight") unexpected.push_back(entry->name);
  }
  const std::string problems = joined(
      {listed(missing, " is missing"), listed(wrong, ""), listed(unexpected, " is unexpected")});
  if (!problems.empty())
    fail_input("{}: the weights do not fit config.json: {}", loaded.file, problems);
  return loaded;
}

void place(Model& model, Device device, DType activations) {
  const bool moves = device != device_of(model);
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (moves && linear.lora && linear.lora->dora)
      fail_input("{}: an adapter with DoRA is computed on CPUs only (--device cpu)", path);
  });
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    const bool matrix = !parameter.trainable && !parameter.vector && !parameter.adapter;
    const bool wider = size_of(parameter.value.dtype()) > size_of(activations);
    if (moves) parameter.value = parameter.value.to(device, MemoryKind::kWeights);
    if (matrix && (moves || wider)) {
      parameter.value = cast(parameter.value, activations, MemoryKind::kWeights);
    }
    if (moves && parameter.trainable) require_grad(parameter.value);
  });
}

void draw_normal(float* out, int64_t count, RandomStream stream, double std) {
  constexpr int64_t kChunk = 4096;  // a multiple of a Philox block
  struct Job {
    float* out;
    int64_t count;
    RandomStream stream;
    double std;
  } job{out, count, stream, std};
  const auto body = [](void* context, int64_t chunk) {
    const Job& j = *static_cast<Job*>(context);
    const int64_t end = std::min(j.count, (chunk + 1) * kChunk);
    for (int64_t i = chunk * kChunk; i < end; i += 4) {
      const PhiloxBlock block = philox_block(j.stream, static_cast<uint64_t>(i / 4));
      double normal[4];
      for (int pair = 0; pair < 4; pair += 2) {
        const double u = (static_cast<double>(block.word[pair]) + 1) * 0x1p-32;  // (0, 1]
        const double angle =
            2 * std::numbers::pi * static_cast<double>(block.word[pair + 1]) * 0x1p-32;
        const double radius = std::sqrt(-2 * std::log(u));
        normal[pair] = radius * std::cos(angle);
        normal[pair + 1] = radius * std::sin(angle);
      }
      for (int64_t k = i; k < std::min(end, i + 4); ++k)
        j.out[k] = static_cast<float>(j.std * normal[k - i]);
    }
  };
  parallel_for((count + kChunk - 1) / kChunk, body, &job);
}

void draw_weights(Model& model, uint64_t seed) {
  uint64_t index = 0;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    Tensor value = Tensor::zeros(parameter.shape, DType::kF32, MemoryKind::kWeights);
    if (!parameter.vector) {
      // Each parameter has a stream of its own: the step word is free here.
      draw_normal(value.data<float>(), value.numel(),
                  {.seed = seed,
                   .purpose = static_cast<uint32_t>(Purpose::kInit),
                   .step = static_cast<uint32_t>(index)},
                  model.init_std(path));
    } else if (path.ends_with(".weight")) {
      std::fill_n(value.data<float>(), value.numel(), 1.0f);
    }
    parameter.value = value;
    ++index;
  });
}

void save_weights(Model& model, const fs::path& folder, DType dtype) {
  files::make_folders(folder);
  std::vector<TensorToWrite> tensors;  // each is made when it is its turn
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    std::vector<int64_t> dims;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) dims.push_back(parameter.shape[axis]);
    tensors.push_back({.name = path,
                       .dtype = dtype,
                       .shape = dims,
                       .data = nullptr,
                       .make = [value = parameter.value.detach(), dtype] {
                         return cast(value, dtype, MemoryKind::kWorkspace)
                             .to(Device::kCPU, MemoryKind::kWorkspace);
                       }});
  });
  write_sharded(folder, tensors);
}

nlohmann::ordered_json read_config(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  const std::string text = read_text(path, kJsonFileBytes);
  parse_json(text, shown(path));  // says where it is wrong
  return nlohmann::ordered_json::parse(text);
}

bool state_dtype(nlohmann::ordered_json& config, DType dtype) {
  const char* const name = dtype == DType::kF32   ? "float32"
                           : dtype == DType::kF16 ? "float16"
                                                  : "bfloat16";
  bool changed = false, stated = false;
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!config.contains(key)) continue;
    stated = true;
    changed |= config[key] != name;
    config[key] = name;
  }
  if (!stated) config["torch_dtype"] = name;
  return changed || !stated;
}

void copy_model_files(const fs::path& from, const fs::path& to) {
  files::make_folders(to);
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json",
        "tokenizer.model", "chat_template.jinja"}) {
    if (!files::exists(from / name)) continue;
    write_text_atomic(to / name, MappedFile::open(from / name)->text());
  }
}

}  // namespace tenon
