// SPDX-License-Identifier: Apache-2.0
// Updates in the backward pass (Lv et al. 2023, LOMO, arXiv:2306.09782): a weight is updated as soon
// as its gradient is final, and the gradient's memory is given back. So a step needs the gradients of
// a few weights at a time instead of all. There is no norm of all gradients to clip by before the
// first weight changes: each is clipped by its own.
#pragma once

#include <vector>

#include "parallel/strategy.h"
#include "train/optimizer.h"

namespace tenon {

class InBackward {
 public:
  // Takes the place of Strategy::place: gradients that become final in an armed pass are reduced by
  // the strategy one by one. Both must outlive it. Throws Error(kInput) where the weights lie on a
  // card.
  InBackward(Optimizer& optimizer, Strategy& strategy);
  ~InBackward();
  InBackward(const InBackward&) = delete;
  InBackward& operator=(const InBackward&) = delete;

  struct Step {
    double lr = 0, unscale = 1, max_norm = 0;  // as Optimizer::step takes them
  };
  void begin_step(const Step& step);
  // Before the step's last backward pass, of which there may be none.
  void arm() { armed_ = true; }
  // Updates what no backward pass reached. Returns the norm of all gradients before clipping.
  double finish_step();

 private:
  void ready(size_t slot);
  void update_next();

  Optimizer& optimizer_;
  Strategy& strategy_;
  Step step_;
  bool armed_ = false;
  // Every rank reduces in the same order, whatever it had to do: from the last parameter to the
  // first, as backward passes go.
  std::vector<bool> ready_;
  size_t left_ = 0;  // slots that are not updated yet: [0, left_)
  double squares_ = 0;
};

}  // namespace tenon
