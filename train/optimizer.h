// SPDX-License-Identifier: Apache-2.0
// The optimizer of a model's trainable parameters, by one of the rules of train/update_rule.h. State
// is named after its parameter, so that a checkpoint can find it again.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/model.h"
#include "train/update_rule.h"

namespace tenon {

class Optimizer {
 public:
  // Takes the parameters that are trainable now; their state begins at zero.
  Optimizer(Model& model, const OptimizerOptions& options);

  // Euclidean norm of all gradients times `grad_scale`; not finite when a gradient is not. Waits for
  // the device.
  double gradient_norm(double grad_scale = 1);

  // One update with gradients times `unscale`, clipped to a norm of `max_norm` (0: as they are).
  // Where a gradient is not finite nothing changes and it does not count as a step. Returns the norm
  // of the unscaled gradients before clipping; all that runs on the device was asked for before the
  // host waits for it.
  double step(double lr, double unscale = 1, double max_norm = 0);
  // The same of one parameter at a time, in the order of the model, without counting the step:
  // clipped by its own norm. Returns the sum of squares of its gradient. On CPUs only.
  double step_of(size_t slot, double lr, double unscale, double max_norm);
  size_t slots() const { return slots_.size(); }
  GradSlot& gradient(size_t slot) const { return *slots_[slot].parameter->value.slot(); }
  Device device() const { return device_; }

  void zero_gradients();

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }  // on resume

  // Every tensor that a checkpoint must hold: "<parameter>", its value, and the rule's state of it.
  void visit_state(const std::function<void(const std::string& name, Tensor& tensor)>& f);
  // The name of the first parameter whose gradient, or whose value, is not finite; or "".
  std::string bad_gradient() const;
  std::string bad_weight() const;

 private:
  // The name of the first whose tensor holds what is not finite; or "".
  std::string first_slot(const std::function<const Tensor&(const OptimizerSlot&)>& pick) const;
  // The step after those that count, of these slots.
  void update(std::span<const OptimizerSlot> slots, const OptimizerList& list,
              const GradientScale& scale, double lr) const;
  bool in_file(const StateTensor& kept) const;
  void refresh_list();
  OptimizerList list() const;
  double read_squares() const;

  OptimizerOptions options_;
  std::vector<OptimizerSlot> slots_;
  Device device_ = Device::kCPU;
  std::vector<OptimizerTensor> tensors_;  // as they were sent to the device
  int64_t pieces_ = 0;
  Tensor list_;     // tensors_, on the device
  Tensor squares_;  // (8) bytes: one double, the sum of squares of the gradients
  int64_t steps_ = 0;
  std::string bad_;  // the first whose gradient step_of() found not finite
};

}  // namespace tenon
