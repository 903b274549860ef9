// SPDX-License-Identifier: Apache-2.0
// A Strategy is what one axis of the mesh of ranks does to training: hooks with empty defaults. The
// trainer calls them and knows no strategy; a group of one rank is an ordinary group.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "models/model.h"

namespace tenon {

class Strategy {
 public:
  virtual ~Strategy() = default;
  // Once, when the trainable parameters and their gradient buffers exist and before the first step.
  virtual void place(Model& model) { (void)model; }
  virtual void before_block(int64_t block) { (void)block; }
  virtual void after_block(int64_t block) { (void)block; }
  // Before the backward pass of the step's last micro-batch: gradients that become final now are
  // this step's.
  virtual void before_last_backward() {}
  // All micro-batches are done; when it returns, gradients are those of the whole step on every
  // rank.
  virtual void before_step() {}
  virtual void after_step() {}
  // In the place of `place` and `before_step` where weights are updated in the backward pass: makes
  // one gradient that of the whole step, now. Every rank asks for the same ones in the same order.
  virtual void reduce(const Tensor& gradient) { (void)gradient; }
};

// Every rank holds the whole model and a share of each step's sequences; gradients are summed over
// `group` in buckets of about `bucket_bytes`, each on its way as soon as its gradients are final,
// while backward goes on. Gradients must already be scaled by the step's global count: the sum is
// then the mean over all scored tokens.
std::unique_ptr<Strategy> data_parallel(Communicator& group,
                                        int64_t bucket_bytes = int64_t{4} << 20);

}  // namespace tenon
