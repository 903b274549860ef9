// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/backend.h"

namespace tenon {

namespace {

bool same(const OptimizerTensor& a, const OptimizerTensor& b) {
  return a.weight == b.weight && a.grad == b.grad && a.m == b.m && a.v == b.v &&
         a.count == b.count && a.first_piece == b.first_piece && a.weight_decay == b.weight_decay;
}

}  // namespace

Optimizer::Optimizer(Model& model, const OptimizerOptions& options) : options_(options) {
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.trainable) return;
    device_ = parameter.value.device();
    Slot slot{path, &parameter, {}, {}};
    const auto state = [&] {
      return Tensor::zeros(parameter.shape, DType::kF32, device_, MemoryKind::kOptimizer);
    };
    const bool adam = options_.kind == OptimizerKind::kAdamW;
    if (adam || options_.momentum != 0) slot.m = state();
    if (adam) slot.v = state();
    slots_.push_back(std::move(slot));
  });
  squares_ = Tensor::zeros({8}, DType::kU8, device_, MemoryKind::kOptimizer);
}

// The list is sent again only where a tensor has moved: a strategy may have put the gradients
// elsewhere.
void Optimizer::refresh_list() {
  std::vector<OptimizerTensor> tensors;
  pieces_ = 0;
  for (const Slot& slot : slots_) {
    const Tensor& value = slot.parameter->value;
    const bool decays = options_.decay_vectors || !slot.parameter->vector;
    tensors.push_back({.weight = value.data<float>(),
                       .grad = value.slot()->grad.data<float>(),
                       .m = slot.m.data<float>(),
                       .v = slot.v.data<float>(),
                       .count = value.numel(),
                       .first_piece = pieces_,
                       .weight_decay = decays ? static_cast<float>(options_.weight_decay) : 0});
    pieces_ += (value.numel() + kOptimizerPiece - 1) / kOptimizerPiece;
  }
  if (std::equal(tensors.begin(), tensors.end(), tensors_.begin(), tensors_.end(), same)) return;
  tensors_ = std::move(tensors);
  const auto bytes = static_cast<int64_t>(tensors_.size() * sizeof(OptimizerTensor));
  list_ = Tensor::empty({bytes}, DType::kU8, device_, MemoryKind::kOptimizer);
  memory_of(device_).upload(list_.raw(), tensors_.data(), bytes);
}

OptimizerList Optimizer::list() const {
  return {.tensors = static_cast<const OptimizerTensor*>(list_.raw()),
          .count = static_cast<int64_t>(tensors_.size()),
          .pieces = pieces_};
}

double Optimizer::read_squares() const {
  return *static_cast<const double*>(squares_.to(Device::kCPU).raw());
}

double Optimizer::gradient_norm(double grad_scale) {
  refresh_list();
  kernels(device_).sum_squares({.list = list(), .out = static_cast<double*>(squares_.raw())});
  return std::sqrt(read_squares()) * grad_scale;
}

double Optimizer::step(double lr, double unscale, double max_norm) {
  refresh_list();
  auto* squares = static_cast<double*>(squares_.raw());
  kernels(device_).sum_squares({.list = list(), .out = squares});
  const GradientScale scale{.sum_squares = squares, .unscale = unscale, .max_norm = max_norm};
  if (options_.kind == OptimizerKind::kSgd) {
    kernels(device_).sgd({.list = list(),
                          .scale = scale,
                          .lr = static_cast<float>(lr),
                          .momentum = static_cast<float>(options_.momentum)});
  } else {
    // The corrections are those of the betas that the kernel works with: 1 - 0.999f is off by 1e-5.
    const auto beta1 = static_cast<float>(options_.beta1),
               beta2 = static_cast<float>(options_.beta2);
    const auto t = static_cast<double>(steps_ + 1);
    const auto correction = [&](float beta) {
      return static_cast<float>(-std::expm1(t * std::log(static_cast<double>(beta))));
    };
    kernels(device_).adamw({.list = list(),
                            .scale = scale,
                            .lr = static_cast<float>(lr),
                            .beta1 = beta1,
                            .beta2 = beta2,
                            .eps = static_cast<float>(options_.eps),
                            .correction1 = correction(beta1),
                            .correction2 = correction(beta2)});
  }
  const double norm = std::sqrt(read_squares()) * unscale;
  if (std::isfinite(norm)) ++steps_;
  return norm;
}

void Optimizer::zero_gradients() {
  for (const Slot& slot : slots_) Tensor(slot.parameter->value.slot()->grad).zero();
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
    const Tensor host = pick(slot).to(Device::kCPU);
    const float* values = host.data<float>();
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(values, values + host.numel(), finite)) return slot.name;
  }
  return "";
}

}  // namespace tenon
