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

StateTensor zero_state(const Parameter& parameter, const char* suffix) {
  return {suffix, Tensor::zeros(parameter.shape, DType::kF32, parameter.value.device(),
                                MemoryKind::kOptimizer)};
}

Optimizer::Optimizer(Model& model, const OptimizerOptions& options) : options_(options) {
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    if (!parameter.trainable) return;
    device_ = parameter.value.device();
    slots_.push_back({path, &parameter, options_.rule->state(parameter, options_)});
  });
  squares_ = Tensor::zeros({8}, DType::kU8, device_, MemoryKind::kOptimizer);
}

// The list is sent again only where a tensor has moved: a strategy may have put the gradients
// elsewhere.
void Optimizer::refresh_list() {
  std::vector<OptimizerTensor> tensors;
  pieces_ = 0;
  for (const OptimizerSlot& slot : slots_) {
    const Tensor& value = slot.parameter->value;
    const bool decays = options_.decay_vectors || !slot.parameter->vector;
    tensors.push_back({.weight = value.data<float>(),
                       .grad = value.slot()->grad.data<float>(),
                       .m = slot.kept("m").data<float>(),
                       .v = slot.kept("v").data<float>(),
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
  options_.rule->step({.options = options_,
                       .kernels = kernels(device_),
                       .slots = slots_,
                       .list = list(),
                       .scale = {.sum_squares = squares, .unscale = unscale, .max_norm = max_norm},
                       .lr = lr,
                       .number = steps_ + 1});
  const double norm = std::sqrt(read_squares()) * unscale;
  if (std::isfinite(norm)) ++steps_;
  return norm;
}

void Optimizer::zero_gradients() {
  for (const OptimizerSlot& slot : slots_) Tensor(slot.parameter->value.slot()->grad).zero();
}

void Optimizer::visit_state(const std::function<void(const std::string&, Tensor&)>& f) {
  for (OptimizerSlot& slot : slots_) {
    f(slot.name, slot.parameter->value);
    for (StateTensor& kept : slot.state) f(slot.name + "." + kept.suffix, kept.tensor);
  }
}

std::string Optimizer::bad_gradient() const {
  return first_not_finite([](const OptimizerSlot& slot) -> const Tensor& {
    return slot.parameter->value.slot()->grad;
  });
}

std::string Optimizer::bad_weight() const {
  return first_not_finite(
      [](const OptimizerSlot& slot) -> const Tensor& { return slot.parameter->value; });
}

std::string Optimizer::first_not_finite(
    const std::function<const Tensor&(const OptimizerSlot&)>& pick) const {
  for (const OptimizerSlot& slot : slots_) {
    const Tensor host = pick(slot).to(Device::kCPU);
    const float* values = host.data<float>();
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(values, values + host.numel(), finite)) return slot.name;
  }
  return "";
}

}  // namespace tenon
