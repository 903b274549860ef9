// SPDX-License-Identifier: Apache-2.0
// A model's weights: read from a Hugging Face folder, drawn at random, written back. Frozen weights
// are mapped, not loaded: they are read where they lie in the file, in the dtype they have there
// (see place).
// Trainable weights are fp32 copies.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/safetensors.h"
#include "core/weight_files.h"
#include "models/model.h"
#include "models/quantized_files.h"

namespace tenon {

// Reads every base parameter of `model` (those of adapters are left alone). Matrices that are marked
// trainable become `trained`, vectors fp32, and both get a gradient. All missing, unexpected and misshapen tensors are named in
// one Error(kInput). Returns which file was read and the dtype of the token embedding there.
struct LoadedWeights {
  std::string file;
  DType dtype = DType::kF32;
  int64_t quantized = 0;  // linears
};
//
// Linears that are stored quantized stay so, and others are brought to it where asked for, a piece at a
// time.
struct LoadOptions {
  Quantization quantization = Quantization::kNone;
  DType trained = DType::kF32;
  GradBuffer gradients = GradBuffer::kNow;
};
LoadedWeights load_weights(Model& model, const std::filesystem::path& folder,
                           const LoadOptions& options = {});
LoadedWeights load_weights(Model& model, const WeightFiles& files, const LoadOptions& options);

// Moves every parameter to `device`, the trainable ones with a fresh gradient buffer. Frozen matrices
// become `activations` where they are wider than that, which halves them and lets products run in
// it; on a card always, for products there want operands of one dtype. Call it when weights and
// adapter are read and before an optimizer looks at them.
void place(Model& model, Device device, DType activations);

// The values that the family's own initialisation draws for a base parameter: matrices normal, biases
// 0, norm weights 1. A function of the seed and the parameter's place alone, made where they are read.
struct InitialValues {
  std::string path;
  Parameter* parameter = nullptr;
  ElementReader read;
};
std::vector<InitialValues> initial_values(Model& model, uint64_t seed);
void draw_weights(Model& model, uint64_t seed);  // into the model, as fp32

// What `read` gives, as a tensor of any float type: no more than pieces of it are fp32.
Tensor read_as(const ElementReader& read, const Shape& shape, DType dtype, MemoryKind kind);

// Writes the base parameters as `dtype` into `folder` (created): model.safetensors or shards,
// Hugging Face names.
void save_weights(Model& model, const std::filesystem::path& folder, DType dtype);

// The config.json of a folder, its keys in their order. Throws Error(kInput).
nlohmann::ordered_json read_config(const std::filesystem::path& folder);

// A float's dtype as PyTorch calls it: "bfloat16".
const char* torch_name(DType dtype);

// Makes a config.json say that its weights are `dtype`, as "dtype" (transformers 5), "torch_dtype"
// or both, by what it has. True when that changed something.
bool state_dtype(nlohmann::ordered_json& config, DType dtype);

// True when the stored tensor has exactly this shape; the shape as text for a message.
bool has_shape(const TensorEntry& entry, const Shape& shape);
std::string shape_text(const TensorEntry& entry);

// A stored tensor where it lies, or copied where its address is not aligned; and a copy of it as `dtype`.
// Requires: its dtype is a float's, its shape has as many elements as `shape`.
Tensor stored_tensor(const TensorEntry& entry, const Shape& shape);
Tensor own(const TensorEntry& entry, const Shape& shape, DType dtype);

// A standard normal for each element of `out`, from the stream (Box-Muller over Philox).
void draw_normal(float* out, int64_t count, RandomStream stream, double std);

}  // namespace tenon
