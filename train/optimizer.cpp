// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <cmath>
#include <cstring>

#include "core/backend.h"

namespace tenon {

Optimizer::Optimizer(Model& model, const OptimizerOptions& options) : options_(options) {
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.trainable) return;
    Slot slot{path, &parameter, {}, {}};
    const bool adam = options_.kind == OptimizerKind::kAdamW;
    if (adam || options_.momentum != 0)
      slot.m = Tensor::zeros(parameter.shape, DType::kF32, MemoryKind::kOptimizer);
    if (adam) slot.v = Tensor::zeros(parameter.shape, DType::kF32, MemoryKind::kOptimizer);
    slots_.push_back(std::move(slot));
  });
}

double Optimizer::gradient_norm(double grad_scale) const {
  double total = 0;
  for (const Slot& slot : slots_) {
    const Tensor& grad = slot.parameter->value.slot()->grad;
    double squares = 0;
    kernels().sum_squares({.x = grad.data<float>(), .count = grad.numel(), .out = &squares});
    total += squares;
  }
  return std::sqrt(total) * grad_scale;
}

void Optimizer::step(double lr, double grad_scale) {
  ++steps_;
  for (const Slot& slot : slots_) {
    const Tensor& value = slot.parameter->value;
    const Tensor& grad = value.slot()->grad;
    const bool decays = options_.decay_vectors || !slot.parameter->vector;
    const double weight_decay = decays ? options_.weight_decay : 0;
    if (options_.kind == OptimizerKind::kSgd) {
      kernels().sgd({.weight = value.data<float>(),
                     .grad = grad.data<float>(),
                     .m = slot.m.data<float>(),
                     .count = value.numel(),
                     .lr = static_cast<float>(lr),
                     .momentum = static_cast<float>(options_.momentum),
                     .weight_decay = static_cast<float>(weight_decay),
                     .grad_scale = static_cast<float>(grad_scale)});
      continue;
    }
    // The corrections are those of the betas that the kernel works with: 1 - 0.999f is off by 1e-5.
    const auto beta1 = static_cast<float>(options_.beta1),
               beta2 = static_cast<float>(options_.beta2);
    const auto t = static_cast<double>(steps_);
    kernels().adamw(
        {.weight = value.data<float>(),
         .grad = grad.data<float>(),
         .m = slot.m.data<float>(),
         .v = slot.v.data<float>(),
         .count = value.numel(),
         .lr = static_cast<float>(lr),
         .beta1 = beta1,
         .beta2 = beta2,
         .eps = static_cast<float>(options_.eps),
         .weight_decay = static_cast<float>(weight_decay),
         .grad_scale = static_cast<float>(grad_scale),
         .correction1 = static_cast<float>(-std::expm1(t * std::log(static_cast<double>(beta1)))),
         .correction2 = static_cast<float>(-std::expm1(t * std::log(static_cast<double>(beta2))))});
  }
}

void Optimizer::zero_gradients() {
  for (const Slot& slot : slots_) {
    const Tensor& grad = slot.parameter->value.slot()->grad;
    std::memset(grad.raw(), 0, static_cast<size_t>(grad.bytes()));
  }
}

void Optimizer::visit_state(const std::function<void(const std::string&, Tensor&)>& f) {
  for (Slot& slot : slots_) {
    f(slot.name, slot.parameter->value);
    if (slot.m.defined()) f(slot.name + ".m", slot.m);
    if (slot.v.defined()) f(slot.name + ".v", slot.v);
  }
}

std::string Optimizer::bad_gradient() const {
  return first_not_finite(
      [](const Slot& slot) -> const Tensor& { return slot.parameter->value.slot()->grad; });
}

std::string Optimizer::bad_weight() const {
  return first_not_finite([](const Slot& slot) -> const Tensor& { return slot.parameter->value; });
}

std::string Optimizer::first_not_finite(
    const std::function<const Tensor&(const Slot&)>& pick) const {
  for (const Slot& slot : slots_) {
    const Tensor& tensor = pick(slot);
    double squares = 0;
    kernels().sum_squares({.x = tensor.data<float>(), .count = tensor.numel(), .out = &squares});
    if (!std::isfinite(squares)) return slot.name;
  }
  return "";
}

}  // namespace tenon
