// SPDX-License-Identifier: Apache-2.0
// sm_90 (Hopper): the instructions of sm_80, more shared memory.
#pragma once

#include "kernels/cuda/mma_k16.cuh"

namespace tenon::cuda::TENON_SM {

constexpr int kSharedBytes = 227 * 1024;  // that a block may ask for
constexpr int kStages = 4;                // tiles of operands in shared memory at a time

}  // namespace tenon::cuda::TENON_SM
