// SPDX-License-Identifier: Apache-2.0
// What the commands share that write a model whose linears are quantized.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "models/quantized_files.h"

namespace tenon {

// The weights of a model as tensors of its files, whose bytes are made when it is their turn: one matrix
// is held at a time.
class QuantizedWriter {
 public:
  explicit QuantizedWriter(Quantization to) : to_(to), latest_(std::make_shared<Latest>()) {}

  // The tensors of the weight `name`, which make() quantizes as was said. It may be called more than
  // once and must give the same each time.
  std::vector<TensorToWrite> tensors(const std::string& name, const Shape& shape, DType dtype,
                                     std::function<Weight()> make) const;

 private:
  // The matrix that was made last, and of which tensor: those of one weight that follow one another
  // share it.
  struct Latest {
    std::string of;
    Weight weight;
  };
  Quantization to_;
  std::shared_ptr<Latest> latest_;
};

// Makes a config.json say so, as transformers' BitsAndBytesConfig writes it. `computes`: the type that
// weights had.
void state_quantization(nlohmann::ordered_json& config, Quantization to, DType computes);

}  // namespace tenon
