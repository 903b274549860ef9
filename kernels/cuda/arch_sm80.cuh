// SPDX-License-Identifier: Apache-2.0
// sm_80 (Ampere) and, with the same instructions, sm_86 and sm_89.
#pragma once

#include "kernels/cuda/mma_k16.cuh"

namespace tenon::cuda::TENON_SM {

// Shared memory that a block may ask for: 163 KB on an A100, but 99 KB on sm_86 and sm_89.
constexpr int kSharedBytes = 99 * 1024;
// Tiles of a product's operands that are in shared memory at a time.
constexpr int kStages = 3;

}  // namespace tenon::cuda::TENON_SM
