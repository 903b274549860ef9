// SPDX-License-Identifier: Apache-2.0
// The peer library that kernels are timed beside: oneDNN, or nothing where the build has none.
#pragma once

#include <functional>

#include "core/kernel_table.h"

namespace tenon::bench {

// "oneDNN 2.6.3", or "" where there is none.
const char* peer_name();

// How many threads the peer takes from now on.
void set_peer_threads(int threads);

// A function that does what matmul(args) does; empty where the peer
// cannot (K in two parts, mixed dtypes, accumulation). What `args` points at must stay alive.
std::function<void()> peer_matmul(const MatmulArgs& args);

}  // namespace tenon::bench
