// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {
namespace {

// One pass of the dropout kernel, which is its own gradient.
Tensor apply(const Tensor& x, const Dropout& drop, const Tensor& add, Tensor y) {
  kernels(x.device())
      .dropout({.x = x.raw(),
                .add = add.raw(),
                .y = y.raw(),
                .count = x.numel(),
                .p = drop.p,
                .random = drop.random,
                .position0 = drop.position0,
                .dtype = x.dtype()});
  return y;
}

}  // namespace

Tensor activation(const Tensor& x, Activation kind) {
  Tensor y = Tensor::empty_like(x);
  kernels(x.device())
      .activation(
          {.x = x.raw(), .y = y.raw(), .count = x.numel(), .activation = kind, .dtype = x.dtype()});

  record("activation", {x}, {&y},
         [=, x = x.detach()](const std::vector<Tensor>& douts, Grads& grads) {
           const Tensor& dy = douts[0];
           Tensor dx = dy.sole_owner() ? dy : Tensor::empty_like(x);
           kernels(x.device())
               .activation_grad({.x = x.raw(),
                                 .dy = dy.raw(),
                                 .dx = dx.raw(),
                                 .count = x.numel(),
                                 .activation = kind,
                                 .dtype = x.dtype()});
           grads.add(0, dx);
         });
  return y;
}

Tensor residual_add(const Tensor& residual, const Tensor& x, const Dropout& drop) {
  TENON_CHECK(residual.shape() == x.shape(), "[residual_add] residual {} and x {} differ",
              residual.shape().text(), x.shape().text());
  Tensor y = Tensor::empty_like(x);
  if (drop.p == 0) {
    kernels(x.device())
        .add({.a = residual.raw(),
              .b = x.raw(),
              .y = y.raw(),
              .count = x.numel(),
              .dtype = x.dtype()});
  } else {
    apply(x, drop, residual, y);
  }
  record("residual_add", {residual, x}, {&y}, [=](const std::vector<Tensor>& douts, Grads& grads) {
    grads.add(0, douts[0]);
    if (grads.wants(1)) {
      grads.add(1,
                drop.p == 0 ? douts[0] : apply(douts[0], drop, {}, Tensor::empty_like(douts[0])));
    }
  });
  return y;
}

Tensor dropout(const Tensor& x, const Dropout& drop) {
  if (drop.p == 0) return x;
  Tensor y = apply(x, drop, {}, Tensor::empty_like(x));
  record("dropout", {x}, {&y}, [=](const std::vector<Tensor>& douts, Grads& grads) {
    grads.add(0, apply(douts[0], drop, {}, Tensor::empty_like(douts[0])));
  });
  return y;
}

Tensor cast(const Tensor& x, DType to, MemoryKind kind) {
  if (x.dtype() == to) return x;
  Tensor y = Tensor::empty(x.shape(), to, x.device(), kind);
  kernels(x.device())
      .cast({.x = x.raw(), .y = y.raw(), .count = x.numel(), .from = x.dtype(), .to = to});
  return y;
}

}  // namespace tenon
