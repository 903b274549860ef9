// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {
namespace {

// What the forms have in common: layer and root-mean-square norm, each with and without a residual.
struct Norm {
  Tensor residual;  // undefined for the plain form
  Tensor x;
  Tensor weight;
  Tensor bias;   // layer norm's; undefined in the other
  bool centred;  // layer norm
  float eps;

  const char* name() const {
    if (residual.defined()) return centred ? "add_layer_norm" : "add_rms_norm";
    return centred ? "layer_norm" : "rms_norm";
  }
};

// What forward keeps.
struct Kept {
  Tensor s, weight;   // (..., C), (C)
  Tensor mean, rstd;  // (rows); mean is layer norm's
  bool centred;
};

void check(const Norm& n) {
  const int64_t channels = n.x.dim(-1);
  TENON_CHECK(!n.residual.defined() || n.residual.shape() == n.x.shape(),
              "[{}] residual {} and x {} differ", n.name(), n.residual.shape().text(),
              n.x.shape().text());
  for (const Tensor* vector : {&n.weight, &n.bias}) {
    if (vector == &n.bias && !n.centred) continue;
    TENON_CHECK(vector->numel() == channels && vector->dtype() == DType::kF32,
                "[{}] rows have {} elements but {} has {} of {}; it is fp32", n.name(), channels,
                vector == &n.weight ? "weight" : "bias", vector->numel(), name_of(vector->dtype()));
  }
}

void forward(const Norm& n, const Kept& kept, const Tensor& y) {
  const int64_t channels = n.x.dim(-1);
  void* sum = n.residual.defined() ? kept.s.raw() : nullptr;
  kernels(n.x.device())
      .norm({.x = n.x.raw(),
             .residual = n.residual.raw(),
             .weight = n.weight.data<float>(),
             .bias = n.bias.data<float>(),
             .sum = sum,
             .y = y.raw(),
             .mean = kept.mean.data<float>(),
             .rstd = kept.rstd.data<float>(),
             .rows = kept.rstd.numel(),
             .channels = channels,
             .eps = n.eps,
             .dtype = n.x.dtype(),
             .centred = n.centred});
}

// ds (undefined: not wanted) and what weight and bias gain.
void gradient(const Kept& kept, const Tensor& dy, const Tensor& dsum, const Tensor& ds,
              const Grads& grads) {
  const Tensor& s = kept.s;
  kernels(s.device())
      .norm_grad({.s = s.raw(),
                  .weight = kept.weight.data<float>(),
                  .mean = kept.mean.data<float>(),
                  .rstd = kept.rstd.data<float>(),
                  .dy = dy.raw(),
                  .dsum = dsum.raw(),
                  .ds = ds.raw(),
                  .dweight = grads.sink(2).data<float>(),
                  .dbias = kept.centred ? grads.sink(3).data<float>() : nullptr,
                  .rows = kept.rstd.numel(),
                  .channels = s.dim(-1),
                  .dtype = s.dtype(),
                  .centred = kept.centred});
}

// {s, y}; s is x in the plain form.
std::pair<Tensor, Tensor> normalize(const Norm& n) {
  check(n);
  const int64_t rows = n.x.numel() / n.x.dim(-1);
  const auto per_row = [&] { return Tensor::empty({rows}, DType::kF32, n.x.device()); };
  Tensor sum = n.residual.defined() ? Tensor::empty_like(n.x) : n.x;  // (..., C)
  Tensor y = Tensor::empty_like(n.x);                                 // (..., C)
  const Kept kept = {sum.detach(), n.weight.detach(), n.centred ? per_row() : Tensor{}, per_row(),
                     n.centred};
  forward(n, kept, y);

  const auto backward = [kept](const std::vector<Tensor>& douts, Grads& grads) {
    const Tensor& dy = douts[0];
    const Tensor dsum = douts.size() > 1 ? douts[1] : Tensor{};
    Tensor ds = dsum;
    if (dy.defined()) {  // else only the sum was used
      const bool wants_input = grads.wants(0) || grads.wants(1);
      ds = wants_input ? Tensor::empty_like(kept.s) : Tensor{};  // (..., C)
      gradient(kept, dy, dsum, ds, grads);
    }
    grads.add(0, ds);
    grads.add(1, ds);
  };
  std::vector<Tensor*> outputs = {&y};
  if (n.residual.defined()) outputs.push_back(&sum);
  record(n.name(), {n.residual, n.x, n.weight, n.bias}, outputs, backward);
  return {sum, y};
}

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, float eps) {
  return normalize({{}, x, weight, bias, true, eps}).second;
}

std::pair<Tensor, Tensor> add_layer_norm(const Tensor& residual, const Tensor& x,
                                         const Tensor& weight, const Tensor& bias, float eps) {
  return normalize({residual, x, weight, bias, true, eps});
}

Tensor rms_norm(const Tensor& x, const Tensor& weight, float eps) {
  return normalize({{}, x, weight, {}, false, eps}).second;
}

std::pair<Tensor, Tensor> add_rms_norm(const Tensor& residual, const Tensor& x,
                                       const Tensor& weight, float eps) {
  return normalize({residual, x, weight, {}, false, eps});
}

}  // namespace tenon
