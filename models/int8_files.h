// SPDX-License-Identifier: Apache-2.0
// Weights in int8 as bitsandbytes lays them out in Hugging Face checkpoints: "W.weight" (out, in) of
// int8, beside it "W.SCB", the largest magnitude of each row, and "W.weight_format", the number 0.
#pragma once

#include <string>
#include <vector>

#include "core/int8.h"
#include "models/stored_weights.h"

namespace tenon {

// Whether the parameter at `path` ("W.weight") is stored so.
bool stored_in_int8(const StoredWeights& stored, const std::string& path);

// Whether a tensor of this name lies beside a weight in int8.
bool is_int8_part(const std::string& name);

// Reads it, and takes its tensors from stored.by_path. `shape`: (out, in). Throws Error(kInput) naming
// file and tensor.
Int8Matrix take_int8(StoredWeights& stored, const std::string& path, const Shape& shape);

// The tensors to write for a weight of this name.
std::vector<TensorToWrite> int8_tensors(const std::string& name, const Int8Matrix& matrix);

}  // namespace tenon
