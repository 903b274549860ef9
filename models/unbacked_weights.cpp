// SPDX-License-Identifier: Apache-2.0
#include "models/unbacked_weights.h"

#include <nlohmann/json.hpp>

#include "core/backend.h"

namespace tenon {

WeightFiles unbacked_weights(Model& model, DType dtype, const std::filesystem::path& source) {
  constexpr int64_t kAlignment = 64;
  std::vector<TensorEntry> entries;
  std::vector<int64_t> offsets;
  int64_t end = 0;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (parameter.adapter) return;
    TensorEntry entry{.name = path, .dtype_name = std::string(safetensors_name(dtype))};
    entry.dtype = dtype;
    for (int axis = 0; axis < parameter.shape.rank(); ++axis)
      entry.shape.push_back(parameter.shape[axis]);
    entry.bytes = parameter.shape.numel() * size_of(dtype);
    offsets.push_back(end);
    end += (entry.bytes + kAlignment - 1) / kAlignment * kAlignment;
    entries.push_back(std::move(entry));
  });
  const std::shared_ptr<const MappedFile> file = MappedFile::unbacked(source, end);
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].data = file->data() + offsets[i];
    entries[i].file = file;
  }
  return WeightFiles::of(TensorFile(file, std::move(entries)), source);
}

DType stated_dtype(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (config.is_object() && config.contains(key) && config[key].is_string())
      return parse_dtype(config[key].get<std::string>(), key);
  }
  return DType::kF32;
}

}  // namespace tenon
