// SPDX-License-Identifier: Apache-2.0
#include "core/weight.h"

#include "core/ops.h"

namespace tenon {

Weight::Weight(FourBitMatrix matrix)
    : four_bit_(std::make_shared<const FourBitMatrix>(std::move(matrix))),
      format_(std::make_shared<const FourBit>(four_bit_->format())) {}

Weight::Weight(Int8Matrix matrix) : int8_(std::make_shared<const Int8Matrix>(std::move(matrix))) {}

const Shape& Weight::shape() const {
  if (four_bit_ != nullptr) return four_bit_->shape;
  return int8_ != nullptr ? int8_->codes.shape() : dense_.shape();
}

int64_t Weight::bytes() const {
  if (four_bit_ != nullptr) return four_bit_->bytes();
  return int8_ != nullptr ? int8_->bytes() : dense_.bytes();
}

const char* Weight::kind() const {
  if (four_bit_ != nullptr) return "4 bits";
  return int8_ != nullptr ? "int8" : name_of(dense_.dtype());
}

Weight Weight::detach() const {
  Weight weight = *this;
  weight.dense_ = dense_.defined() ? dense_.detach() : Tensor();
  return weight;
}

MatrixOperand Weight::operand(bool transposed) const {
  MatrixOperand operand{.stride = dim(1), .transposed = transposed};
  if (four_bit_ != nullptr) {
    operand.data = four_bit_->codes.raw();
    operand.four_bit = format_.get();
  } else if (int8_ != nullptr) {
    operand.data = int8_->codes.raw();
    operand.dtype = DType::kI8;
    operand.scales = int8_->scales.data<float>();
  } else {
    operand.data = dense_.raw();
    operand.dtype = dense_.dtype();
  }
  return operand;
}

Tensor Weight::rows(int64_t begin, int64_t end) const {
  if (four_bit_ != nullptr) return four_bit_->rows(begin, end);
  if (int8_ != nullptr) return int8_->rows(begin, end);
  const Tensor part = dense_.rows(begin, end);
  return part.dtype() == DType::kF32 ? part.clone(MemoryKind::kWorkspace)
                                     : cast(part, DType::kF32, MemoryKind::kWorkspace);
}

std::vector<Tensor> Weight::parts() const {
  if (int8_ != nullptr) return {int8_->codes, int8_->largest};
  if (four_bit_ == nullptr) return {dense_};
  return {four_bit_->codes, four_bit_->doubled() ? four_bit_->scale_codes : four_bit_->scales};
}

}  // namespace tenon
