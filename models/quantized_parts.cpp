// SPDX-License-Identifier: Apache-2.0
#include "models/quantized_parts.h"

#include <cmath>

#include "core/error.h"
#include "core/parallel_for.h"
#include "models/weights.h"

namespace tenon {

void reject_tensor(const TensorEntry& entry, const std::string& why) {
  fail_input("{}: tensor \"{}\": {}", shown(entry.file->path()), printable(entry.name), why);
}

Tensor take_part(StoredWeights& stored, const std::string& path, DType dtype, int64_t count,
                 const TensorEntry& beside) {
  const auto found = stored.by_path.find(path);
  if (found == stored.by_path.end())
    reject_tensor(beside, fmt::format("expected \"{}\" beside it", printable(path)));
  const TensorEntry& entry = *found->second;
  stored.by_path.erase(found);
  if (entry.dtype != dtype || entry.elements() != count) {
    reject_tensor(entry, fmt::format("expected {} elements of {}, got {} of {}", count,
                                     safetensors_name(dtype), entry.elements(), entry.dtype_name));
  }
  return stored_tensor(entry, {count});
}

void check_scales(const Tensor& scales, const TensorEntry& entry) {
  if (!chunks_are_run()) return;  // a dry run reads no weights
  for (int64_t i = 0; i < scales.numel(); ++i) {
    if (!std::isfinite(scales.data<float>()[i]))
      reject_tensor(entry, fmt::format("scale {} is {}", i, scales.data<float>()[i]));
  }
}

TensorToWrite part_to_write(const std::string& name, const Tensor& tensor,
                            std::vector<int64_t> shape) {
  if (shape.empty()) shape = {tensor.numel()};
  return {.name = name,
          .dtype = tensor.dtype(),
          .shape = std::move(shape),
          .data = nullptr,
          .make = [tensor] { return tensor; }};
}

}  // namespace tenon
