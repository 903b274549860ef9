// SPDX-License-Identifier: Apache-2.0
#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/backend.h"
#include "core/finite.h"

namespace tenon {

namespace {

bool same(const OptimizerTensor& a, const OptimizerTensor& b) {
  const auto all = [](const OptimizerTensor& t) {
    return std::tie(t.weight, t.grad, t.m, t.v, t.count, t.first_piece, t.weight_decay, t.dtype,
                    t.number, t.m_codes, t.v_codes, t.m_scales, t.v_scales);
  };
  return all(a) == all(b);
}

int64_t pieces_of(const OptimizerTensor& tensor) {
  return (tensor.count + kOptimizerPiece - 1) / kOptimizerPiece;
}

OptimizerTensor tensor_of(const OptimizerSlot& slot, const OptimizerOptions& options) {
  const Tensor& value = slot.parameter->value;
  return {.weight = value.raw(),
          .grad = value.slot()->grad.data<float>(),
          .m = slot.kept("m").data<float>(),
          .v = slot.kept("v").data<float>(),
          .count = value.numel(),
          .weight_decay = static_cast<float>(weight_decay_of(*slot.parameter, options)),
          .dtype = value.dtype(),
          .number = slot.number,
          .m_codes = slot.kept("m_codes").data<uint8_t>(),
          .v_codes = slot.kept("v_codes").data<uint8_t>(),
          .m_scales = slot.kept("m_scales").data<float>(),
          .v_scales = slot.kept("v_scales").data<float>()};
}

}  // namespace

double weight_decay_of(const Parameter& parameter, const OptimizerOptions& options) {
  return options.decay_vectors || !parameter.vector ? options.weight_decay : 0;
}

StateTensor zero_state(const Parameter& parameter, const char* suffix) {
  return {suffix, Tensor::zeros(parameter.shape, DType::kF32, parameter.value.device(),
                                MemoryKind::kOptimizer)};
}

Optimizer::Optimizer(Model& model, const OptimizerOptions& options) : options_(options) {
  uint32_t number = 0;
  model.visit_parameters([&](const std::string& path, Parameter& parameter) {
    ++number;
    if (!parameter.trainable) return;
    device_ = parameter.value.device();
    if (device_ != Device::kCPU && !options_.rule->cuda)
      fail_input("--optimizer: this one is computed on CPUs only (--device cpu)");
    if (device_ != Device::kCPU && options_.state_in != nullptr)
      fail_input("--offload optimizer: on CPUs only (--device cpu)");
    slots_.push_back({path, &parameter, number, options_.rule->state(parameter, options_)});
    for (StateTensor& kept : slots_.back().state) {
      if (in_file(kept))
        kept.tensor = options_.state_in->zeros(kept.tensor.shape(), kept.tensor.dtype());
    }
  });
  squares_ = Tensor::zeros({8}, DType::kU8, device_, MemoryKind::kOptimizer);
}

bool Optimizer::in_file(const StateTensor& kept) const {
  constexpr int64_t kLeast = 64 << 10;
  return options_.state_in != nullptr && kept.tensor.bytes() >= kLeast;
}

// The list is sent again only where a tensor has moved: a strategy may have put the gradients
// elsewhere.
void Optimizer::refresh_list() {
  std::vector<OptimizerTensor> tensors;
  pieces_ = 0;
  for (const OptimizerSlot& slot : slots_) {
    tensors.push_back(tensor_of(slot, options_));
    tensors.back().first_piece = pieces_;
    pieces_ += pieces_of(tensors.back());
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

void Optimizer::update(std::span<const OptimizerSlot> slots, const OptimizerList& list,
                       const GradientScale& scale, double lr) const {
  const int64_t number = steps_ + 1;
  options_.rule->step({.options = options_,
                       .kernels = kernels(device_),
                       .slots = slots,
                       .list = list,
                       .scale = scale,
                       .rounding = {.seed = options_.seed,
                                    .purpose = static_cast<uint32_t>(Purpose::kRounding),
                                    .step = static_cast<uint32_t>(number)},
                       .lr = lr,
                       .number = number});
  for (const OptimizerSlot& slot : slots) {
    for (const StateTensor& kept : slot.state) {
      if (in_file(kept)) release_pages(kept.tensor);
    }
  }
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
  update(slots_, list(), {.sum_squares = squares, .unscale = unscale, .max_norm = max_norm}, lr);
  const double norm = std::sqrt(read_squares()) * unscale;
  if (std::isfinite(norm)) ++steps_;
  return norm;
}

double Optimizer::step_of(size_t slot, double lr, double unscale, double max_norm) {
  const OptimizerTensor tensor = tensor_of(slots_[slot], options_);
  const OptimizerList list{.tensors = &tensor, .count = 1, .pieces = pieces_of(tensor)};
  double squares = 0;
  kernels(device_).sum_squares({.list = list, .out = &squares});
  if (!std::isfinite(squares) && bad_.empty()) bad_ = slots_[slot].name;
  update(std::span(slots_).subspan(slot, 1), list,
         {.sum_squares = &squares, .unscale = unscale, .max_norm = max_norm}, lr);
  return squares;
}

void Optimizer::zero_gradients() {
  for (size_t i = 0; i < slots(); ++i) {
    if (Tensor grad = gradient(i).grad; grad.defined()) grad.zero();
  }
}

void Optimizer::visit_state(const std::function<void(const std::string&, Tensor&)>& f) {
  for (OptimizerSlot& slot : slots_) {
    f(slot.name, slot.parameter->value);
    for (StateTensor& kept : slot.state) f(slot.name + "." + kept.suffix, kept.tensor);
  }
}

std::string Optimizer::bad_gradient() const {
  if (!bad_.empty()) return bad_;
  return first_slot([](const OptimizerSlot& slot) -> const Tensor& {
    return slot.parameter->value.slot()->grad;
  });
}

std::string Optimizer::bad_weight() const {
  return first_slot(
      [](const OptimizerSlot& slot) -> const Tensor& { return slot.parameter->value; });
}

std::string Optimizer::first_slot(
    const std::function<const Tensor&(const OptimizerSlot&)>& pick) const {
  for (const OptimizerSlot& slot : slots_) {
    const Tensor host = pick(slot).to(Device::kCPU);
    if (first_not_finite(host.raw(), host.numel(), host.dtype()) >= 0) return slot.name;
  }
  return "";
}

}  // namespace tenon
