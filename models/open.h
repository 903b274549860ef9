// SPDX-License-Identifier: Apache-2.0
// Opening a model: built from its config, read, given an adapter, placed. Every command opens models
// this way.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "models/weights.h"

namespace tenon {

struct Opening {
  std::filesystem::path model;  // a Hugging Face folder
  // `model` is a config.json instead, and the weights are drawn, seed 1, in this dtype.
  std::optional<DType> drawn;
  // `model` is a config.json instead, and no weights are there: for dry runs.
  bool unbacked = false;
  Device device = Device::kCPU;
  DType activations = DType::kF32;  // see place()
  bool train_base = false;          // every weight of the base is trained
  DType trained = DType::kF32;      // what its matrices are then
  bool stream = false;              // on the CPU: see models/base_stream.h
  GradBuffer gradients = GradBuffer::kNow;
  Quantization quantization = Quantization::kNone;
  // Between the config and the weights: may throw where the shapes do not serve.
  std::function<void(Model&)> check;
  // Gives it an adapter, once its weights are read.
  std::function<void(Model&)> adapt;
};

struct OpenedModel {
  std::unique_ptr<Model> model;
  LoadedWeights weights;  // nothing where they were drawn
};

// Throws Error(kInput) naming file, field or tensor.
OpenedModel open_model(const Opening& opening);

// An `adapt` that reads the adapter in `folder`, frozen; none where the folder is empty.
std::function<void(Model&)> frozen_adapter(const std::filesystem::path& folder);

}  // namespace tenon
