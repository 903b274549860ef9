// SPDX-License-Identifier: Apache-2.0
// The matrix of a linear as it lies in memory: dense, in 4 bits or in int8. Products take any; what
// needs numbers asks for rows.
#pragma once

#include <memory>
#include <vector>

#include "core/four_bit.h"
#include "core/int8.h"
#include "core/tensor.h"

namespace tenon {

class Weight {
 public:
  Weight() = default;  // undefined
  Weight(Tensor dense) : dense_(std::move(dense)) {}
  explicit Weight(FourBitMatrix matrix);
  explicit Weight(Int8Matrix matrix);

  bool defined() const { return dense_.defined() || quantized(); }
  bool quantized() const { return four_bit_ != nullptr || int8_ != nullptr; }
  const Shape& shape() const;
  int64_t dim(int axis) const { return shape()[axis]; }
  int64_t bytes() const;
  // "4 bits", "int8", or the dtype's name.
  const char* kind() const;

  // What a tape knows of it: undefined where it is quantized, for nothing is trained then.
  const Tensor& dense() const { return dense_; }
  const FourBitMatrix* four_bit() const { return four_bit_.get(); }
  const Int8Matrix* int8() const { return int8_.get(); }
  Weight detach() const;

  // Looks at this weight, which must live on.
  MatrixOperand operand(bool transposed = false) const;

  // Rows [begin, end) as fp32.
  Tensor rows(int64_t begin, int64_t end) const;

  // The tensors that it consists of, but for a few numbers.
  std::vector<Tensor> parts() const;

 private:
  Tensor dense_;
  std::shared_ptr<const FourBitMatrix> four_bit_;
  std::shared_ptr<const FourBit> format_;
  std::shared_ptr<const Int8Matrix> int8_;
};

}  // namespace tenon
