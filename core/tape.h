// SPDX-License-Identifier: Apache-2.0
// The tape: entries in execution order, walked backwards, each freed as it is used. No graph, no
// topological sort: what ran last is differentiated first, so the order of sums is fixed and
// activations die as early as they can.
//
//   Tape tape;
//   Tensor loss;
//   { Recording scope(tape); loss = model(x); }   // without a scope nothing is recorded: "no grad"
//   tape.backward(loss);                          // parameter gradients have been added to
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/tensor.h"

namespace tenon {

// What a backward function writes to: the gradients of its op's inputs, by their place in
// record()'s list.
class Grads {
 public:
  explicit Grads(std::vector<std::shared_ptr<GradSlot>>& inputs) : inputs_(inputs) {}

  // True when somebody asked for the gradient of input i.
  bool wants(size_t i) const { return inputs_[i] != nullptr; }

  // Adds `grad` to the gradient of input i, or does nothing when it is not wanted. The bytes may be
  // shared: the tape copies before it would write to bytes that somebody else sees.
  void add(size_t i, const Tensor& grad);

  // The fp32 buffer into which an op accumulates the gradient of parameter i; undefined when it is
  // not wanted. Requires: input i is a parameter.
  Tensor sink(size_t i) const;

 private:
  std::vector<std::shared_ptr<GradSlot>>& inputs_;
};

// Receives the gradients of the outputs, in record()'s order; one may be undefined (nobody used
// that output).
using Backward = std::function<void(const std::vector<Tensor>& douts, Grads& grads)>;

class Tape {
 public:
  // Runs every entry backwards from `output`, whose gradient is `seed` (ones for an undefined
  // seed), and empties the tape. Gradients of parameters are added to; those of activations are
  // gone afterwards, except that of a tensor made with `leaf`.
  void backward(const Tensor& output, const Tensor& seed = {});

  // An entry without tensors: recorded after a block's forward, `f` runs before that block's
  // backward.
  void mark(std::function<void()> f);

  bool empty() const { return entries_.empty(); }

 private:
  friend void record(const char* name, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
                     Backward backward, bool always);
  struct Entry {
    const char* name;
    std::vector<std::shared_ptr<GradSlot>> inputs, outputs;
    Backward backward;
    std::function<void()> marked;
  };
  std::vector<Entry> entries_;
};

// Makes `tape` the thread's current tape while the scope lives; Pause makes the thread record
// nothing.
class Recording {
 public:
  explicit Recording(Tape& tape);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  Tape* previous_;
};
class Pause {
 public:
  Pause();
  ~Pause();
  Pause(const Pause&) = delete;
  Pause& operator=(const Pause&) = delete;

 private:
  Tape* previous_;
};

Tape* current_tape();

// Called by an op after its forward: when a tape is current and an input has a gradient slot (or
// `always`), gives the outputs slots and appends the entry. The closure should capture exactly what
// backward needs.
void record(const char* name, std::vector<Tensor> inputs, std::vector<Tensor*> outputs,
            Backward backward, bool always = false);

// True when an op called now with these inputs would be recorded: for ops that save something only
// then.
bool recording(std::initializer_list<const Tensor*> inputs);

// A tensor with the bytes of `x` and a gradient slot of its own: the start of a tape.
Tensor leaf(const Tensor& x);

// y = f(x) without keeping what f's ops would save: backward runs f again on a small tape. f must
// give the same result again (random numbers here are counter-based, so dropout does). A parameter
// used inside two recomputed functions of one pass reports on_ready after each.
Tensor recompute(std::function<Tensor(const Tensor&)> f, const Tensor& x);

}  // namespace tenon
