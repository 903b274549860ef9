// SPDX-License-Identifier: Apache-2.0
// Kernel launches that several ops share, on whole tensors. Nothing here is put on a tape.
#pragma once

#include "core/ops.h"

namespace tenon {

// The address of an element.
inline void* at(const Tensor& tensor, int64_t element) {
  return static_cast<std::byte*>(tensor.raw()) + element * size_of(tensor.dtype());
}

// `matrix` (rows of `columns` elements) as an operand, transposed or as it lies.
inline MatrixOperand operand(const Tensor& matrix, int64_t columns, bool transposed = false) {
  return {
      .data = matrix.raw(), .stride = columns, .transposed = transposed, .dtype = matrix.dtype()};
}

// c (+)= alpha op(a) op(b), everything contiguous, in the precision of the activation among them.
void product(const Tensor& c, const MatrixOperand& a, const MatrixOperand& b, int64_t m, int64_t n,
             int64_t k, DType precision, float alpha = 1, bool accumulate = false);

// y = dropout(x), plus `add` where it is defined; y may be x or add. It is its own gradient.
void apply_dropout(const Tensor& x, const Dropout& dropout, const Tensor& add, const Tensor& y);
// dropout(x) in a tensor of its own; x itself where p is 0.
Tensor dropped(const Tensor& x, const Dropout& dropout);

// `shape` with another last extent.
Shape with_channels(const Shape& shape, int64_t channels);

}  // namespace tenon
