// SPDX-License-Identifier: Apache-2.0
#include "models/int8_files.h"

#include "core/error.h"
#include "core/parallel_for.h"
#include "models/quantized_parts.h"
#include "models/weights.h"

namespace tenon {
namespace {

constexpr std::string_view kWeight = "weight";
constexpr uint8_t kByRow = 0;  // bitsandbytes knows layouts of other numbers, for GPUs of old

// "W.weight" as "W." and `part`.
std::string beside(const std::string& path, std::string_view part) {
  return path.substr(0, path.size() - kWeight.size()).append(part);
}

}  // namespace

bool stored_in_int8(const StoredWeights& stored, const std::string& path) {
  return path.ends_with(kWeight) && stored.find(path) != nullptr &&
         stored.find(beside(path, "SCB")) != nullptr;
}

bool is_int8_part(const std::string& name) {
  return name.ends_with(".SCB") || name.ends_with(".weight_format");
}

Int8Matrix take_int8(StoredWeights& stored, const std::string& path, const Shape& shape) {
  const TensorEntry& entry = *stored.find(path);
  stored.by_path.erase(path);
  if (entry.dtype != DType::kI8 || !has_shape(entry, shape)) {
    reject_tensor(entry, fmt::format("beside its SCB expected {} of I8, got {} of {}", shape.text(),
                                     shape_text(entry), entry.dtype_name));
  }
  Int8Matrix m{.codes = stored_tensor(entry, shape)};
  m.largest = take_part(stored, beside(path, "SCB"), DType::kF32, shape[0], entry);
  check_scales(m.largest, entry);
  m.scales = int8_scales(m.largest);
  const std::string format = beside(path, "weight_format");
  if (stored.find(format) != nullptr) {
    const Tensor number = take_part(stored, format, DType::kU8, 1, entry);
    if (chunks_are_run() && *number.data<uint8_t>() != kByRow)
      reject_tensor(entry, fmt::format("its weight_format is {}, expected 0 (by row)",
                                       int{*number.data<uint8_t>()}));
  }
  return m;
}

std::vector<TensorToWrite> int8_tensors(const std::string& name, const Int8Matrix& matrix) {
  static constexpr uint8_t kFormat[] = {kByRow};
  return {
      part_to_write(name, matrix.codes, {matrix.codes.dim(0), matrix.codes.dim(1)}),
      part_to_write(beside(name, "SCB"), matrix.largest),
      {.name = beside(name, "weight_format"), .dtype = DType::kU8, .shape = {}, .data = kFormat}};
}

}  // namespace tenon
