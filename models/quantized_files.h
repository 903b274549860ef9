// SPDX-License-Identifier: Apache-2.0
// The kinds of quantized weights as the rest meets them: stored in a checkpoint, made of floats, and
// written. Each kind has a matrix in core and a file here.
#pragma once

#include <string>
#include <vector>

#include "core/weight.h"
#include "models/module.h"
#include "models/stored_weights.h"

namespace tenon {

// What linears become. What is quantized lies (out, in), whatever way the family's weights lie.
enum class Quantization : uint8_t { kNone, kNf4, kDoubleNf4, kInt8 };

// Whether the parameter at `path` is stored quantized; whether a tensor of this name lies beside one
// that is.
bool stored_quantized(const StoredWeights& stored, const std::string& path);
bool is_quantized_part(const std::string& name);

// Reads it, and takes its tensors from stored.by_path. Throws Error(kInput) naming file and tensor.
Weight take_quantized(StoredWeights& stored, const std::string& path, const Shape& shape);

// Floats as they are read, brought to it a piece at a time; `dtype` is theirs. Throws Error(kNumeric)
// naming `where`. Requires: not kNone.
Weight quantized(Quantization to, const Shape& shape, DType dtype, const ElementReader& read,
                 const std::string& where);
// A linear's stored weight of floats.
Weight quantized(Quantization to, const TensorEntry& entry, const Linear& linear);
// One of the same size that is to be filled. Requires: kNf4 or kInt8.
Weight unfilled(Quantization to, const Shape& shape, DType dtype);

// The tensors to write for a weight of this name. They look at it.
std::vector<TensorToWrite> quantized_tensors(const std::string& name, const Weight& weight);

}  // namespace tenon
