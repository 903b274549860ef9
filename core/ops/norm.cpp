// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {
namespace {

// Shared by both forms: inputs are {residual, x, weight, bias} (residual undefined for the plain
// one).
Tensor normalize(const Tensor& residual, const Tensor& x, const Tensor& weight, const Tensor& bias,
                 float eps, Tensor* sum) {
  const int64_t channels = x.dim(-1), rows = x.numel() / channels;
  TENON_CHECK(weight.numel() == channels && bias.numel() == channels,
              "[layer_norm] rows have {} elements but weight has {} and bias {}", channels,
              weight.numel(), bias.numel());
  TENON_CHECK(weight.dtype() == DType::kF32 && bias.dtype() == DType::kF32,
              "[layer_norm] weight and bias are fp32");

  if (residual.defined()) *sum = Tensor::empty_like(x);
  Tensor y = Tensor::empty_like(x);                              // (..., C)
  Tensor mean = Tensor::empty({rows}, DType::kF32, x.device());  // (rows)
  Tensor rstd = Tensor::empty({rows}, DType::kF32, x.device());  // (rows)
  kernels(x.device())
      .layer_norm({.x = x.raw(),
                   .residual = residual.raw(),
                   .weight = weight.data<float>(),
                   .bias = bias.data<float>(),
                   .sum = residual.defined() ? sum->raw() : nullptr,
                   .y = y.raw(),
                   .mean = mean.data<float>(),
                   .rstd = rstd.data<float>(),
                   .rows = rows,
                   .channels = channels,
                   .eps = eps,
                   .dtype = x.dtype()});

  const Tensor s = residual.defined() ? sum->detach() : x.detach();
  const auto backward = [=, weight = weight.detach()](const std::vector<Tensor>& douts,
                                                      Grads& grads) {
    const Tensor& dy = douts[0];
    const Tensor dsum = douts.size() > 1 ? douts[1] : Tensor{};
    const bool wants_input = grads.wants(0) || grads.wants(1);
    if (!dy.defined()) {  // only the sum was used
      grads.add(0, dsum);
      grads.add(1, dsum);
      return;
    }
    Tensor ds = wants_input ? Tensor::empty_like(s) : Tensor{};  // (..., C)
    kernels(s.device())
        .layer_norm_grad({.s = s.raw(),
                          .weight = weight.data<float>(),
                          .mean = mean.data<float>(),
                          .rstd = rstd.data<float>(),
                          .dy = dy.raw(),
                          .dsum = dsum.raw(),
                          .ds = ds.raw(),
                          .dweight = grads.sink(2).data<float>(),
                          .dbias = grads.sink(3).data<float>(),
                          .rows = rows,
                          .channels = channels,
                          .dtype = s.dtype()});
    grads.add(0, ds);
    grads.add(1, ds);
  };
  if (residual.defined()) {
    record("add_layer_norm", {residual, x, weight, bias}, {&y, sum}, backward);
  } else {
    record("layer_norm", {residual, x, weight, bias}, {&y}, backward);
  }
  return y;
}

// As `normalize`; inputs are {residual, x, weight}.
Tensor rms_normalize(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps,
                     Tensor* sum) {
  const int64_t channels = x.dim(-1), rows = x.numel() / channels;
  TENON_CHECK(weight.numel() == channels && weight.dtype() == DType::kF32,
              "[rms_norm] rows have {} elements but weight has {} of {}; it is fp32", channels,
              weight.numel(), name_of(weight.dtype()));

  if (residual.defined()) *sum = Tensor::empty_like(x);
  Tensor y = Tensor::empty_like(x);                              // (..., C)
  Tensor rstd = Tensor::empty({rows}, DType::kF32, x.device());  // (rows)
  kernels(x.device())
      .rms_norm({.x = x.raw(),
                 .residual = residual.raw(),
                 .weight = weight.data<float>(),
                 .sum = residual.defined() ? sum->raw() : nullptr,
                 .y = y.raw(),
                 .rstd = rstd.data<float>(),
                 .rows = rows,
                 .channels = channels,
                 .eps = eps,
                 .dtype = x.dtype()});

  const Tensor s = residual.defined() ? sum->detach() : x.detach();
  const auto backward = [=, weight = weight.detach()](const std::vector<Tensor>& douts,
                                                      Grads& grads) {
    const Tensor& dy = douts[0];
    const Tensor dsum = douts.size() > 1 ? douts[1] : Tensor{};
    Tensor ds = dsum;
    if (dy.defined()) {  // else only the sum was used
      const bool wants_input = grads.wants(0) || grads.wants(1);
      ds = wants_input ? Tensor::empty_like(s) : Tensor{};  // (..., C)
      kernels(s.device())
          .rms_norm_grad({.s = s.raw(),
                          .weight = weight.data<float>(),
                          .rstd = rstd.data<float>(),
                          .dy = dy.raw(),
                          .dsum = dsum.raw(),
                          .ds = ds.raw(),
                          .dweight = grads.sink(2).data<float>(),
                          .rows = rows,
                          .channels = channels,
                          .dtype = s.dtype()});
    }
    grads.add(0, ds);
    grads.add(1, ds);
  };
  if (residual.defined()) {
    record("add_rms_norm", {residual, x, weight}, {&y, sum}, backward);
  } else {
    record("rms_norm", {residual, x, weight}, {&y}, backward);
  }
  return y;
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  return normalize({}, x, weight, bias, eps, nullptr);
}

std::pair<Tensor, Tensor> add_layer_norm(const Tensor& residual, const Tensor& x,
                                         const Tensor& weight, const Tensor& bias, float eps) {
  TENON_CHECK(residual.shape() == x.shape(), "[add_layer_norm] residual {} and x {} differ",
              residual.shape().text(), x.shape().text());
  Tensor sum;
  Tensor y = normalize(residual, x, weight, bias, eps, &sum);
  return {sum, y};
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  return rms_normalize({}, x, weight, eps, nullptr);
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& residual, const Tensor& x,
                                       const Tensor& weight, float eps) {
  TENON_CHECK(residual.shape() == x.shape(), "[add_rms_norm] residual {} and x {} differ",
              residual.shape().text(), x.shape().text());
  Tensor sum;
  Tensor y = rms_normalize(residual, x, weight, eps, &sum);
  return {sum, y};
}

}  // namespace tenon
