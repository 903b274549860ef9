// SPDX-License-Identifier: Apache-2.0
// The peer libraries that kernels are timed beside: oneDNN on the CPU and cuBLASLt on a card, or
// nothing where the build has none.
#pragma once

#include <functional>

#include "core/device.h"
#include "core/kernel_table.h"

namespace tenon::bench {

// "oneDNN 2.6.3", "cuBLASLt 13.1"; "" where there is none.
const char* peer_name(Device device);

// How many threads the CPU's peer takes from now on.
void set_peer_threads(int threads);

// A function that does what matmul(args) does; empty where the peer
// cannot (K in two parts, mixed dtypes, accumulation). What `args` points at must stay alive.
std::function<void()> peer_matmul(Device device, const MatmulArgs& args);

// One for each device, in a file of its own.
const char* cpu_peer_name();
const char* cuda_peer_name();
std::function<void()> cpu_peer_matmul(const MatmulArgs& args);
std::function<void()> cuda_peer_matmul(const MatmulArgs& args);

}  // namespace tenon::bench
