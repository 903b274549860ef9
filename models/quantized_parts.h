// SPDX-License-Identifier: Apache-2.0
// What the layouts of quantized weights share: tensors that lie beside a weight in a checkpoint.
#pragma once

#include <string>
#include <vector>

#include "core/safetensors.h"
#include "core/tensor.h"
#include "models/stored_weights.h"

namespace tenon {

[[noreturn]] void reject_tensor(const TensorEntry& entry, const std::string& why);

// Takes the tensor at `path` from `stored`, where it must be with `count` elements of `dtype`;
// `beside`: what asks for it. Throws Error(kInput).
Tensor take_part(StoredWeights& stored, const std::string& path, DType dtype, int64_t count,
                 const TensorEntry& beside);

// All of them must be finite. `entry` is what a message names.
void check_scales(const Tensor& scales, const TensorEntry& entry);

// As a tensor of a file, of one dim where no shape is given.
TensorToWrite part_to_write(const std::string& name, const Tensor& tensor,
                            std::vector<int64_t> shape = {});

}  // namespace tenon
