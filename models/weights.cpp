// SPDX-License-Identifier: Apache-2.0
#include "models/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <numbers>

#include "core/backend.h"
#include "core/error.h"
#include "core/files.h"
#include "core/finite.h"
#include "core/for_pieces.h"
#include "models/stored_weights.h"
#include "models/weight_check.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Whether `data` may be read in place as elements of this dtype.
bool aligned(const TensorEntry& entry) {
  return reinterpret_cast<uintptr_t>(entry.data) % static_cast<uintptr_t>(size_of(*entry.dtype)) ==
         0;
}

void read_parameter(Parameter& parameter, const TensorEntry& entry, const LoadOptions& options) {
  if (parameter.trainable || parameter.vector) {
    // Vectors are small, and copies of them do not keep a file mapped whose matrices were converted.
    parameter.value = own(entry, parameter.shape, parameter.vector ? DType::kF32 : options.trained);
    release_pages(entry);
  } else {
    parameter.value = stored_tensor(entry, parameter.shape);
  }
  if (parameter.trainable) require_grad(parameter.value, options.gradients);
}

void set_quantized(Linear& linear, const Weight& weight) {
  linear.layout = WeightLayout::kOutIn;
  linear.weight.shape = weight.shape();
  linear.weight.value = {};
  linear.weight.trainable = false;
  linear.weight.quantized = weight;
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

Tensor stored_tensor(const TensorEntry& entry, const Shape& shape) {
  if (aligned(entry)) return Tensor::borrow(entry.data, shape, *entry.dtype, entry.file);
  Tensor copy = Tensor::empty(shape, *entry.dtype, MemoryKind::kWeights);
  std::memcpy(copy.raw(), entry.data, static_cast<size_t>(entry.bytes));
  return copy;
}

Tensor own(const TensorEntry& entry, const Shape& shape, DType dtype) {
  const Tensor tensor = stored_tensor(entry, shape);
  return tensor.dtype() == dtype ? tensor.clone(MemoryKind::kWeights)
                                 : cast(tensor, dtype, MemoryKind::kWeights);
}

LoadedWeights load_weights(Model& model, const fs::path& folder, const LoadOptions& options) {
  return load_weights(model, WeightFiles::open(folder), options);
}

LoadedWeights load_weights(Model& model, const WeightFiles& files, const LoadOptions& options) {
  StoredWeights stored = StoredWeights::of(model, files);
  LoadedWeights loaded{.file = shown(files.source())};
  std::vector<std::string> missing, wrong = stored.conflicts, unexpected;
  std::map<Parameter*, Linear*> linears;
  model.visit_linears(
      [&](const std::string&, Linear& linear) { linears[&linear.weight] = &linear; });
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    const auto found = linears.find(&parameter);
    Linear* linear = found == linears.end() ? nullptr : found->second;
    if (linear != nullptr && stored_quantized(stored, path)) {
      set_quantized(*linear, take_quantized(stored, path, {linear->out(), linear->in()}));
      ++loaded.quantized;
      return;
    }
    const TensorEntry* entry = stored.find(path);
    if (entry == nullptr) return missing.push_back(path);
    stored.by_path.erase(path);
    if (!has_shape(*entry, parameter.shape)) {
      return wrong.push_back(
          fmt::format("{} is {}, expected {}", path, shape_text(*entry), parameter.shape.text()));
    }
    if (!entry->dtype || !is_float(*entry->dtype)) {
      return wrong.push_back(
          fmt::format("{} has dtype {}, expected F32, F16 or BF16", path, entry->dtype_name));
    }
    if (&parameter == &model.head()) loaded.dtype = *entry->dtype;
    if (linear == nullptr || options.quantization == Quantization::kNone)
      return read_parameter(parameter, *entry, options);
    set_quantized(*linear, quantized(options.quantization, *entry, *linear));
    ++loaded.quantized;
    release_pages(*entry);
  });
  for (const auto& [path, entry] : stored.by_path) unexpected.push_back(entry->name);
  const std::string problems = joined(
      {listed(missing, " is missing"), listed(wrong, ""), listed(unexpected, " is unexpected")});
  if (!problems.empty())
    fail_input("{}: the weights do not fit config.json: {}", loaded.file, problems);
  return loaded;
}

void place(Model& model, Device device, DType activations) {
  const bool moves = device != device_of(model);
  model.visit_linears([&](const std::string& path, Linear& linear) {
    if (moves && linear.weight.quantized.defined())
      fail_input("{}: a weight in {} is computed on CPUs only (--device cpu)", path,
                 linear.weight.quantized.kind());
    if (moves && linear.lora && linear.lora->dora)
      fail_input("{}: an adapter with DoRA is computed on CPUs only (--device cpu)", path);
  });
  model.visit_parameters([&](const std::string&, Parameter& parameter) {
    if (parameter.quantized.defined()) return;
    const bool matrix = !parameter.trainable && !parameter.vector && !parameter.adapter;
    const bool wider = size_of(parameter.value.dtype()) > size_of(activations);
    if (moves) parameter.value = parameter.value.to(device, MemoryKind::kWeights);
    if (matrix && (moves || wider)) {
      parameter.value = cast(parameter.value, activations, MemoryKind::kWeights);
    }
    if (moves && parameter.trainable) require_grad(parameter.value);
  });
}

namespace {

// Elements [begin, begin + count) of what draw_normal makes.
void draw_part(float* out, int64_t begin, int64_t count, RandomStream stream, double std) {
  const int64_t end = begin + count;
  for (int64_t i = begin / 4 * 4; i < end; i += 4) {
    const PhiloxBlock block = philox_block(stream, static_cast<uint64_t>(i / 4));
    double normal[4];
    for (int pair = 0; pair < 4; pair += 2) {
      const double u = (static_cast<double>(block.word[pair]) + 1) * 0x1p-32;  // (0, 1]
      const double angle =
          2 * std::numbers::pi * static_cast<double>(block.word[pair + 1]) * 0x1p-32;
      const double radius = std::sqrt(-2 * std::log(u));
      normal[pair] = radius * std::cos(angle);
      normal[pair + 1] = radius * std::sin(angle);
    }
    for (int64_t k = std::max(i, begin); k < std::min(end, i + 4); ++k)
      out[k - begin] = static_cast<float>(std * normal[k - i]);
  }
}

}  // namespace

void draw_normal(float* out, int64_t count, RandomStream stream, double std) {
  for_pieces(count, 4096, [&](int64_t begin, int64_t end) {
    draw_part(out + begin, begin, end - begin, stream, std);
  });
}

std::vector<InitialValues> initial_values(Model& model, uint64_t seed) {
  std::vector<InitialValues> all;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    if (parameter.vector) {
      const float value = path.ends_with(".weight") ? 1.0f : 0.0f;
      all.push_back({path, &parameter, [value](int64_t, int64_t count, float* out) {
                       std::fill_n(out, count, value);
                     }});
      return;
    }
    // Each parameter has a stream of its own: the step word is free here.
    const RandomStream stream{.seed = seed,
                              .purpose = static_cast<uint32_t>(Purpose::kInit),
                              .step = static_cast<uint32_t>(all.size())};
    all.push_back({path, &parameter,
                   [stream, std = model.init_std(path)](int64_t begin, int64_t count, float* out) {
                     draw_part(out, begin, count, stream, std);
                   }});
  });
  return all;
}

Tensor read_as(const ElementReader& read, const Shape& shape, DType dtype, MemoryKind kind) {
  constexpr int64_t kPiece = 16384;
  Tensor out = Tensor::empty(shape, dtype, kind);
  for_pieces(shape.numel(), kPiece, [&](int64_t begin, int64_t end) {
    std::byte* const to = static_cast<std::byte*>(out.raw()) + begin * size_of(dtype);
    if (dtype == DType::kF32) return read(begin, end - begin, reinterpret_cast<float*>(to));
    std::vector<float> wide(static_cast<size_t>(end - begin));
    read(begin, end - begin, wide.data());
    kernels(Device::kCPU)
        .cast({.x = wide.data(), .y = to, .count = end - begin, .from = DType::kF32, .to = dtype});
  });
  return out;
}

void draw_weights(Model& model, uint64_t seed) {
  for (const InitialValues& values : initial_values(model, seed)) {
    values.parameter->value =
        read_as(values.read, values.parameter->shape, DType::kF32, MemoryKind::kWeights);
  }
}

void save_weights(Model& model, const fs::path& folder, DType dtype) {
  files::make_folders(folder);
  std::vector<TensorToWrite> tensors;  // each is made when it is its turn
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    std::vector<int64_t> dims;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis) dims.push_back(parameter.shape[axis]);
    tensors.push_back(
        {.name = path,
         .dtype = dtype,
         .shape = dims,
         .data = nullptr,
         .make =
             [value = parameter.value.detach(), dtype] {
               return cast(value, dtype, MemoryKind::kWorkspace)
                   .to(Device::kCPU, MemoryKind::kWorkspace);
             },
         .origin =
             [value = parameter.value.detach(), dtype](int64_t index) {
               const Tensor host = value.to(Device::kCPU, MemoryKind::kWorkspace);
               const auto number = static_cast<double>(element_of(host.raw(), index, host.dtype()));
               return std::isfinite(number)
                          ? fmt::format("it is {}, {}", number_text(number), beyond_text(dtype))
                          : "its value is so";
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

const char* torch_name(DType dtype) {
  return dtype == DType::kF32 ? "float32" : dtype == DType::kF16 ? "float16" : "bfloat16";
}

bool state_dtype(nlohmann::ordered_json& config, DType dtype) {
  const char* const name = torch_name(dtype);
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

}  // namespace tenon
