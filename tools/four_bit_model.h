// SPDX-License-Identifier: Apache-2.0
// What the commands share that write a model in 4 bits.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/four_bit.h"
#include "core/safetensors.h"

namespace tenon {

// The weights of a model in 4 bits as tensors of its files, whose bytes are made when it is their
// turn: one matrix is held at a time.
class FourBitWriter {
 public:
  explicit FourBitWriter(bool doubled) : doubled_(doubled), latest_(std::make_shared<Latest>()) {}

  // The tensors of the weight `name`, which make() quantizes, doubly where that was said. It may be
  // called more than once and must give the same each time.
  std::vector<TensorToWrite> tensors(const std::string& name, const Shape& shape, DType dtype,
                                     std::function<FourBitMatrix()> make) const;

 private:
  // The matrix that was made last, and of which tensor: those of one weight that follow one another
  // share it.
  struct Latest {
    std::string of;
    std::shared_ptr<const FourBitMatrix> matrix;
  };
  bool doubled_;
  std::shared_ptr<Latest> latest_;
};

// Makes a config.json say so, as transformers' BitsAndBytesConfig writes it. `computes`: the type that
// weights had.
void state_nf4(nlohmann::ordered_json& config, bool doubled, DType computes);

}  // namespace tenon
