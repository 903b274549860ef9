// SPDX-License-Identifier: Apache-2.0
#include "train/micro_batch.h"

#include "train/choices.h"

namespace tenon {

LossSum run_micro_batch(const MicroBatches& all, const MicroBatch& one) {
  const TrainOptions& o = all.options;
  ModelInput input =
      model_input(one.batch, precision_of(o.precision).activations, device_of(all.model));
  Context& context = input.context;
  context.training = true;
  context.model_dropout = o.model_dropout == "config";
  context.seed = static_cast<uint64_t>(o.seed);
  context.step = one.step;
  context.sequence0 = one.sequence0;
  const BlockHooks hooks{[&](int64_t i) { all.strategy.before_block(i); },
                         [&](int64_t i) { all.strategy.after_block(i); }};
  Tape tape;
  LossSum loss;
  {
    const Recording scope(tape);
    const Tensor hidden =
        forward(all.model, context,
                {.recompute_every = recompute_every(o.checkpoint_activations), .hooks = &hooks});
    loss = linear_cross_entropy(hidden, all.model.head().value, input.targets,
                                static_cast<float>(one.scale));
  }
  if (one.last) all.strategy.before_last_backward();
  if (one.last && all.in_backward != nullptr) all.in_backward->arm();
  tape.backward(loss.losses);
  return loss;
}

}  // namespace tenon
