// SPDX-License-Identifier: Apache-2.0
#include "core/tape.h"

#include <algorithm>
#include <utility>

#include "core/backend.h"
#include "core/profile.h"

namespace tenon {
namespace {

thread_local Tape* current = nullptr;

}  // namespace

Tape* current_tape() { return current; }

Recording::Recording(Tape& tape) : previous_(std::exchange(current, &tape)) {}
Recording::~Recording() { current = previous_; }
Pause::Pause() : previous_(std::exchange(current, nullptr)) {}
Pause::~Pause() { current = previous_; }

void Grads::add(size_t i, const Tensor& grad) {
  if (!wants(i) || !grad.defined()) return;
  GradSlot& slot = *inputs_[i];
  if (slot.parameter) slot.buffer();
  TENON_CHECK(!slot.grad.defined() || slot.grad.numel() == grad.numel(),
              "[tape] gradient of {} added to one of {}", grad.shape().text(),
              slot.grad.shape().text());
  if (!slot.grad.defined()) {
    slot.grad = grad.detach();
    return;
  }
  TENON_CHECK(slot.grad.dtype() == grad.dtype(), "[tape] a {} gradient added to a {} one",
              name_of(grad.dtype()), name_of(slot.grad.dtype()));
  Tensor sum = slot.parameter || slot.grad.sole_owner() ? slot.grad : Tensor::empty_like(slot.grad);
  kernels(sum.device())
      .add({.a = slot.grad.raw(),
            .b = grad.raw(),
            .y = sum.raw(),
            .count = grad.numel(),
            .dtype = grad.dtype()});
  slot.grad = sum;
}

Tensor Grads::sink(size_t i) const {
  if (!wants(i)) return {};
  TENON_CHECK(inputs_[i]->parameter, "[tape] input {} is not a parameter", i);
  return inputs_[i]->buffer();
}

void Tape::backward(const Tensor& output, const Tensor& seed) {
  TENON_CHECK(output.slot() != nullptr, "[tape] backward from a tensor that was not recorded");
  if (seed.defined()) {
    output.slot()->grad = seed.detach();
  } else {
    Tensor ones = Tensor::empty(output.shape(), DType::kF32, output.device());
    kernels(ones.device()).fill({.y = ones.raw(), .count = ones.numel(), .value = 1});
    output.slot()->grad = ones;
  }
  const Pause pause;
  while (!entries_.empty()) {
    Entry entry = std::move(entries_.back());
    entries_.pop_back();
    if (Profile* profile = current_profile()) profile->op_begins(entry.name);
    if (entry.marked) {
      entry.marked();
      continue;
    }
    std::vector<Tensor> douts;
    bool reached = false;
    for (const auto& slot : entry.outputs) {
      douts.push_back(std::exchange(slot->grad, {}));
      reached |= douts.back().defined();
    }
    if (reached) {
      Grads grads(entry.inputs);
      entry.backward(douts, grads);
    }
    for (const auto& slot : entry.inputs) {
      if (slot != nullptr && slot->parameter && --slot->uses == 0 && slot->on_ready)
        slot->on_ready();
    }
  }
}

void Tape::mark(std::function<void()> f) { entries_.push_back({"mark", {}, {}, {}, std::move(f)}); }

bool recording(std::initializer_list<const Tensor*> inputs) {
  return current != nullptr && std::any_of(inputs.begin(), inputs.end(), [](const Tensor* input) {
           return input->slot() != nullptr;
         });
}

void record(const char* name, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            Backward backward, bool always) {
  if (Profile* profile = current_profile()) profile->op_recorded(name);
  if (current == nullptr) return;
  Tape::Entry entry{name, {}, {}, std::move(backward), {}};
  for (const Tensor& input : inputs) {
    entry.inputs.push_back(input.slot());
    always |= input.slot() != nullptr;
  }
  if (!always) return;
  for (const auto& slot : entry.inputs) {
    if (slot != nullptr && slot->parameter) ++slot->uses;
  }
  for (Tensor* output : outputs) {
    output->set_slot(std::make_shared<GradSlot>());
    entry.outputs.push_back(output->slot());
  }
  current->entries_.push_back(std::move(entry));
}

Tensor leaf(const Tensor& x) {
  Tensor tensor = x.detach();
  tensor.set_slot(std::make_shared<GradSlot>());
  return tensor;
}

Tensor recompute(std::function<Tensor(const Tensor&)> f, const Tensor& x) {
  if (current == nullptr) return f(x);
  Tensor y;
  {
    const Pause pause;
    y = f(x.detach());
  }
  record(
      "recompute", {x}, {&y},
      [f = std::move(f), x = x.detach()](const std::vector<Tensor>& douts, Grads& grads) {
        const Tensor input = grads.wants(0) ? leaf(x) : x;
        Tape tape;
        Tensor output;
        {
          const Recording scope(tape);
          output = f(input);
        }
        if (output.slot() == nullptr) return;  // nothing inside is trainable and nobody wants dx
        tape.backward(output, douts[0]);
        if (grads.wants(0)) grads.add(0, input.slot()->grad);
      },
      true);
  return y;
}

}  // namespace tenon
