// SPDX-License-Identifier: Apache-2.0
// The matrix of a linear as it lies in memory: dense, or in 4 bits. Products take either; what needs
// numbers asks for rows.
#pragma once

#include <memory>

#include "core/four_bit.h"
#include "core/tensor.h"

namespace tenon {

class Weight {
 public:
  Weight() = default;  // undefined
  Weight(Tensor dense) : dense_(std::move(dense)) {}
  explicit Weight(std::shared_ptr<const FourBitMatrix> four_bit) : four_bit_(std::move(four_bit)) {
    if (four_bit_ != nullptr) format_ = std::make_shared<FourBit>(four_bit_->format());
  }

  bool defined() const { return dense_.defined() || four_bit_ != nullptr; }
  const Shape& shape() const { return four_bit_ != nullptr ? four_bit_->shape : dense_.shape(); }
  int64_t dim(int axis) const { return shape()[axis]; }
  int64_t bytes() const { return four_bit_ != nullptr ? four_bit_->bytes() : dense_.bytes(); }

  // What a tape knows of it: undefined in 4 bits, where nothing is trained.
  const Tensor& dense() const { return dense_; }
  const std::shared_ptr<const FourBitMatrix>& four_bit() const { return four_bit_; }
  Weight detach() const {
    Weight weight = *this;
    weight.dense_ = dense_.defined() ? dense_.detach() : Tensor();
    return weight;
  }

  // Looks at this weight, which must live on.
  MatrixOperand operand(bool transposed = false) const {
    MatrixOperand operand{.data = dense_.raw(), .stride = dim(1), .transposed = transposed};
    if (four_bit_ != nullptr) {
      operand.data = four_bit_->codes.raw();
      operand.four_bit = format_.get();
    } else {
      operand.dtype = dense_.dtype();
    }
    return operand;
  }

  // Rows [begin, end) as fp32.
  Tensor rows(int64_t begin, int64_t end) const;

 private:
  Tensor dense_;
  std::shared_ptr<const FourBitMatrix> four_bit_;
  std::shared_ptr<const FourBit> format_;
};

}  // namespace tenon
