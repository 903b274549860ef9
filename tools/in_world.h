// SPDX-License-Identifier: Apache-2.0
// Runs a command on every rank of the job, all of one build and with the same kernels: a failure on
// any of them prints its one line and ends them all.
#pragma once

#include <functional>

#include "comm/world.h"
#include "train/finetune.h"

namespace tenon {

// `threads`: what --threads says; 0 is the rank's share of the machine.
int in_world(int threads, const std::function<int(World& world, const Machine& machine)>& run);

}  // namespace tenon
