// SPDX-License-Identifier: Apache-2.0
// Weights in 4 bits as bitsandbytes lays them out in Hugging Face checkpoints: beside "W.weight"
// (bytes of codes) "W.weight.absmax", ".quant_map", where doubly quantized ".nested_absmax" and
// ".nested_quant_map", and ".quant_state.bitsandbytes__nf4" (or __fp4), a JSON text as bytes.
#pragma once

#include <string>
#include <vector>

#include "core/four_bit.h"
#include "core/safetensors.h"
#include "models/stored_weights.h"

namespace tenon {

// Whether the parameter at `path` is stored so.
bool stored_in_four_bit(const StoredWeights& stored, const std::string& path);

// Whether a tensor of this name lies beside a weight in 4 bits.
bool is_four_bit_part(const std::string& name);

// Reads it, and takes its tensors from stored.by_path. `shape`: (out, in), which is how all of them
// lie. Throws Error(kInput) naming file and tensor.
FourBitMatrix take_four_bit(StoredWeights& stored, const std::string& path, const Shape& shape);

// The tensors to write for a weight of this name.
std::vector<TensorToWrite> four_bit_tensors(const std::string& name, const FourBitMatrix& matrix);

}  // namespace tenon
