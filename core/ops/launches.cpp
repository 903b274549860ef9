// SPDX-License-Identifier: Apache-2.0
#include "core/ops/launches.h"

#include "core/backend.h"

namespace tenon {

void product(const Tensor& c, const MatrixOperand& a, const MatrixOperand& b, int64_t m, int64_t n,
             int64_t k, DType precision, float alpha, bool accumulate) {
  kernels(c.device())
      .matmul({.a = a,
               .b = b,
               .c = c.raw(),
               .c_stride = n,
               .c_dtype = c.dtype(),
               .m = m,
               .n = n,
               .k = k,
               .alpha = alpha,
               .accumulate = accumulate,
               .precision = precision});
}

void apply_dropout(const Tensor& x, const Dropout& dropout, const Tensor& add, const Tensor& y) {
  kernels(x.device())
      .dropout({.x = x.raw(),
                .add = add.raw(),
                .y = y.raw(),
                .count = x.numel(),
                .p = dropout.p,
                .random = dropout.random,
                .position0 = dropout.position0,
                .dtype = x.dtype()});
}

Tensor dropped(const Tensor& x, const Dropout& dropout) {
  if (dropout.p == 0) return x;
  Tensor y = Tensor::empty_like(x);
  apply_dropout(x, dropout, {}, y);
  return y;
}

Shape with_channels(const Shape& shape, int64_t channels) {
  switch (shape.rank()) {
    case 1: return {channels};
    case 2: return {shape[0], channels};
    case 3: return {shape[0], shape[1], channels};
    default: return {shape[0], shape[1], shape[2], channels};
  }
}

}  // namespace tenon
