// SPDX-License-Identifier: Apache-2.0
#include "tools/verify_case.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/files.h"
#include "models/weights.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

std::optional<SafetensorsFile> open_if_there(const fs::path& path) {
  if (!files::exists(path)) return std::nullopt;
  return SafetensorsFile::open(path);
}

}  // namespace

Case open_case(const fs::path& folder, const std::string& model, DType precision) {
  if (!files::is_folder(folder)) fail_input("{}: expected a case folder", shown(folder));
  Case c{.folder = folder,
         .model = model.empty() ? folder / "model" : fs::path(model),
         .inputs = open_if_there(folder / "inputs.safetensors"),
         .steps = open_if_there(folder / "steps.safetensors"),
         .expected = open_if_there(folder / "expected.safetensors"),
         .facts = files::exists(folder / "expected.json")
                      ? JsonObject::read(folder / "expected.json")
                      : JsonObject(Json::object(), shown(folder)),
         .precision = precision};
  if (!c.inputs && !c.steps)
    fail_input("{}: expected inputs.safetensors or steps.safetensors", shown(folder));
  const JsonObject config = JsonObject::read(c.model / "config.json");
  c.has_kink = config.text("activation_function", "") == "relu";
  return c;
}

CaseBatch make_batch(const Case& c, const Model& model, const Tensor& ids, const Tensor& labels) {
  const int64_t rows = ids.dim(0), tokens = ids.dim(1);
  if (labels.shape() != ids.shape())
    fail_input("{}: input_ids and labels differ in shape", shown(c.folder));
  if (tokens > model.max_positions()) {
    fail_input("{}: {} tokens for a model of {} positions", shown(c.folder), tokens,
               model.max_positions());
  }
  CaseBatch batch;
  Tensor positions = Tensor::empty(ids.shape(), DType::kI32);
  batch.targets = Tensor::empty(ids.shape(), DType::kI32);
  for (int64_t i = 0; i < rows * tokens; ++i) {
    const int64_t t = i % tokens;
    const int32_t id = ids.data<int32_t>()[i];
    const int32_t target = t + 1 < tokens ? labels.data<int32_t>()[i + 1] : -100;
    if (id < 0 || id >= model.vocabulary() ||
        (target != -100 && (target < 0 || target >= model.vocabulary()))) {
      fail_input("{}: token {} is outside the vocabulary of {}", shown(c.folder), id,
                 model.vocabulary());
    }
    positions.data<int32_t>()[i] = static_cast<int32_t>(t);
    batch.targets.data<int32_t>()[i] = target;
    batch.scored += target != -100;
  }
  batch.context.ids = ids.to(device_of(model));
  batch.context.positions = positions.to(device_of(model));
  batch.context.dtype = c.precision;
  return batch;
}

Tensor int_tensor(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  const std::string where = shown(file.file()->path());
  if (entry == nullptr) fail_input("{}: expected a tensor \"{}\"", where, name);
  if (!entry->dtype || entry->shape.size() != 2 ||
      (*entry->dtype != DType::kI32 && *entry->dtype != DType::kI64)) {
    fail_input("{}: tensor \"{}\": expected I32 or I64 [B, T], got {} {}", where, name,
               entry->dtype_name, shape_text(*entry));
  }
  Tensor out = Tensor::empty({entry->shape[0], entry->shape[1]}, DType::kI32);
  for (int64_t i = 0; i < out.numel(); ++i) {
    if (*entry->dtype == DType::kI32) {
      std::memcpy(out.data<int32_t>() + i, entry->data + 4 * i, 4);
    } else {
      int64_t value = 0;
      std::memcpy(&value, entry->data + 8 * i, 8);
      out.data<int32_t>()[i] = static_cast<int32_t>(value);
    }
  }
  return out;
}

std::optional<std::vector<float>> expected_values(const Case& c, const std::string& name,
                                                  int64_t elements) {
  const TensorEntry* entry = c.expected ? c.expected->find(name) : nullptr;
  if (entry == nullptr) return std::nullopt;
  if (entry->dtype != DType::kF32 || entry->elements() != elements) {
    fail_input("{}: tensor \"{}\": expected F32 with {} elements, got {} {}",
               shown(c.expected->file()->path()), name, elements, entry->dtype_name,
               shape_text(*entry));
  }
  std::vector<float> values(static_cast<size_t>(elements));
  std::memcpy(values.data(), entry->data, static_cast<size_t>(entry->bytes));
  return values;
}

std::vector<double> numbers(const JsonObject& facts, const std::string& key) {
  std::vector<double> values;
  const Json* list = facts.find(key);
  if (list == nullptr) return values;
  if (!list->is_array()) facts.reject(key, "a list of numbers");
  for (const Json& value : *list) {
    if (!value.is_number()) facts.reject(key, "a list of numbers");
    values.push_back(value.get<double>());
  }
  return values;
}

}  // namespace tenon
