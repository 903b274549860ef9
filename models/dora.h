// SPDX-License-Identifier: Apache-2.0
// The row lengths that DoRA divides by. They are constants to the gradient (as the paper's section
// 4.3 and PEFT have it), so they are computed once where the weights change, not in every product.
#pragma once

#include "models/model.h"

namespace tenon {

// Brings the norms of every DoRA of `model` up to date with its A and B. To be called after these
// changed: once a training step, and when a checkpoint was read.
void update_norms(Model& model);

// The same for one layer. Requires: linear.lora->dora.
void update_norms(Linear& linear);

}  // namespace tenon
