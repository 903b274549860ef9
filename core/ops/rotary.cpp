// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {
namespace {

// Rotates the heads of x in place.
void rotate(const Tensor& x, const Rotary& options, bool inverse) {
  kernels(x.device())
      .rotary({.x = x.raw(),
               .cosines = options.cosines.data<float>(),
               .sines = options.sines.data<float>(),
               .positions = options.positions.data<int32_t>(),
               .tokens = x.dim(0) * x.dim(1),
               .heads = options.heads,
               .head_size = options.head_size,
               .rotary = 2 * options.cosines.dim(1),
               .sequence = x.dim(1),
               .stride = x.dim(2),
               .inverse = inverse,
               .dtype = x.dtype()});
}

}  // namespace

Tensor rotary(Tensor x, const Rotary& options) {
  const Shape &shape = x.shape(), &table = options.cosines.shape();
  TENON_CHECK(shape.rank() == 3 && options.heads * options.head_size <= shape[2],
              "[rotary] x is (B, T, C) with {} heads of {} elements, got {}", options.heads,
              options.head_size, shape.text());
  TENON_CHECK(
      table.rank() == 2 && table == options.sines.shape() &&
          options.cosines.dtype() == DType::kF32 && options.sines.dtype() == DType::kF32 &&
          2 * table[1] <= options.head_size,
      "[rotary] tables are fp32 (positions, pairs of a head), got {} {} and {} {} for heads "
      "of {} elements",
      table.text(), name_of(options.cosines.dtype()), options.sines.shape().text(),
      name_of(options.sines.dtype()), options.head_size);
  TENON_CHECK(options.positions.defined() ? options.positions.numel() == shape[0] * shape[1]
                                          : shape[1] <= table[0],
              "[rotary] x {} does not fit positions {} and tables {}", shape.text(),
              options.positions.shape().text(), table.text());

  Tensor y = x.sole_owner() ? x.detach() : x.clone();  // (B, T, C)
  rotate(y, options, false);
  record("rotary", {x}, {&y}, [options](const std::vector<Tensor>& douts, Grads& grads) {
    const Tensor dx = douts[0].sole_owner() ? douts[0] : douts[0].clone();  // (B, T, C)
    rotate(dx, options, true);
    grads.add(0, dx);
  });
  return y;
}

}  // namespace tenon
