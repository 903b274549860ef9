// SPDX-License-Identifier: Apache-2.0
// The card of the process and its one stream. Everything that a kernel, a copy or a product asks of
// the card goes through that stream, so that it runs in the order in which it was asked for.
#pragma once

#include <cuda_runtime.h>

#include "core/device.h"

namespace tenon::cuda {

// The stream; makes the process's card the calling thread's first. Requires: a card was opened.
cudaStream_t stream();

// Throws Error(kInternal) saying what was being done, the kernel launched last, and CUDA's reason.
void check(cudaError_t error, const char* doing);

// For messages: what a later failure may come from.
void note_launch(const char* kernel);

}  // namespace tenon::cuda
