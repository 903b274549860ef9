// SPDX-License-Identifier: Apache-2.0
#include "train/in_backward.h"

#include <cmath>

namespace tenon {

InBackward::InBackward(Optimizer& optimizer, Strategy& strategy)
    : optimizer_(optimizer), strategy_(strategy), ready_(optimizer.slots()) {
  if (optimizer.device() != Device::kCPU)
    fail_input("--update in-backward: computed on CPUs only (--device cpu)");
  for (size_t i = 0; i < optimizer_.slots(); ++i)
    optimizer_.gradient(i).on_ready = [this, i] { ready(i); };
}

InBackward::~InBackward() {
  for (size_t i = 0; i < optimizer_.slots(); ++i) optimizer_.gradient(i).on_ready = {};
}

void InBackward::begin_step(const Step& step) {
  step_ = step;
  armed_ = false;
  squares_ = 0;
  left_ = optimizer_.slots();
  ready_.assign(left_, false);
}

void InBackward::ready(size_t slot) {
  if (!armed_) return;
  ready_[slot] = true;
  while (left_ > 0 && ready_[left_ - 1]) update_next();
}

double InBackward::finish_step() {
  while (left_ > 0) update_next();
  armed_ = false;
  const double norm = std::sqrt(squares_) * step_.unscale;
  if (std::isfinite(norm)) optimizer_.set_steps(optimizer_.steps() + 1);
  return norm;
}

void InBackward::update_next() {
  GradSlot& gradient = optimizer_.gradient(--left_);
  strategy_.reduce(gradient.buffer());
  squares_ += optimizer_.step_of(left_, step_.lr, step_.unscale, step_.max_norm);
  gradient.grad = {};
}

}  // namespace tenon
