// SPDX-License-Identifier: Apache-2.0
#include <cstddef>

#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/launches.h"

namespace tenon {
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

Tensor gated_activation(const Tensor& gate, const Tensor& up, Activation kind) {
  TENON_CHECK(gate.shape() == up.shape(), "[gated_activation] gate {} and up {} differ",
              gate.shape().text(), up.shape().text());
  const int64_t channels = gate.dim(-1), rows = gate.numel() / channels;
  Tensor y = Tensor::empty_like(gate);  // (..., C)
  kernels(y.device())
      .gated_activation({.gate = gate.raw(),
                         .up = up.raw(),
                         .y = y.raw(),
                         .rows = rows,
                         .channels = channels,
                         .stride = channels,
                         .activation = kind,
                         .dtype = y.dtype()});

  record(
      "gated_activation", {gate, up}, {&y},
      [=, gate = gate.detach(), up = up.detach()](const std::vector<Tensor>& douts, Grads& grads) {
        Tensor dgate = Tensor::empty_like(gate), dup = Tensor::empty_like(up);  // (..., C)
        kernels(gate.device())
            .gated_activation_grad({.gate = gate.raw(),
                                    .up = up.raw(),
                                    .dy = douts[0].raw(),
                                    .dgate = dgate.raw(),
                                    .dup = dup.raw(),
                                    .rows = rows,
                                    .channels = channels,
                                    .stride = channels,
                                    .dstride = channels,
                                    .activation = kind,
                                    .dtype = gate.dtype()});
        grads.add(0, dgate);
        grads.add(1, dup);
      });
  return y;
}

Tensor gated_activation(const Tensor& gate_up, Activation kind) {
  TENON_CHECK(gate_up.shape().rank() == 3 && gate_up.dim(2) % 2 == 0,
              "[gated_activation] gate and up side by side are (B, T, 2C), got {}",
              gate_up.shape().text());
  const int64_t batch = gate_up.dim(0), tokens = gate_up.dim(1), width = gate_up.dim(2);
  const int64_t rows = batch * tokens, channels = width / 2;
  // Where the second halves of its rows begin.
  const auto half = [=](const Tensor& both) {
    return static_cast<std::byte*>(both.raw()) + channels * size_of(both.dtype());
  };
  Tensor y =
      Tensor::empty({batch, tokens, channels}, gate_up.dtype(), gate_up.device());  // (B, T, C)
  kernels(y.device())
      .gated_activation({.gate = gate_up.raw(),
                         .up = half(gate_up),
                         .y = y.raw(),
                         .rows = rows,
                         .channels = channels,
                         .stride = width,
                         .activation = kind,
                         .dtype = y.dtype()});

  record("gated_activation", {gate_up}, {&y},
         [=, gate_up = gate_up.detach()](const std::vector<Tensor>& douts, Grads& grads) {
           Tensor both = Tensor::empty_like(gate_up);  // (B, T, 2C)
           kernels(both.device())
               .gated_activation_grad({.gate = gate_up.raw(),
                                       .up = half(gate_up),
                                       .dy = douts[0].raw(),
                                       .dgate = both.raw(),
                                       .dup = half(both),
                                       .rows = rows,
                                       .channels = channels,
                                       .stride = width,
                                       .dstride = width,
                                       .activation = kind,
                                       .dtype = both.dtype()});
           grads.add(0, both);
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
    apply_dropout(x, drop, residual, y);
  }
  record("residual_add", {residual, x}, {&y}, [=](const std::vector<Tensor>& douts, Grads& grads) {
    grads.add(0, douts[0]);
    if (grads.wants(1)) grads.add(1, dropped(douts[0], drop));
  });
  return y;
}

Tensor dropout(const Tensor& x, const Dropout& drop) {
  if (drop.p == 0) return x;
  Tensor y = dropped(x, drop);
  record("dropout", {x}, {&y}, [=](const std::vector<Tensor>& douts, Grads& grads) {
    grads.add(0, dropped(douts[0], drop));
  });
  return y;
}

Tensor scaled(const Tensor& x, float factor) {
  const auto times = [factor](const Tensor& from) {
    Tensor to = Tensor::empty_like(from);
    kernels(to.device())
        .scale({.x = from.raw(),
                .y = to.raw(),
                .count = to.numel(),
                .factor = factor,
                .dtype = to.dtype()});
    return to;
  };
  Tensor y = times(x);
  record("scaled", {x}, {&y}, [times](const std::vector<Tensor>& douts, Grads& grads) {
    grads.add(0, times(douts[0]));
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
