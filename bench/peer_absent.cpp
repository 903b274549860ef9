// SPDX-License-Identifier: Apache-2.0
// The build has no peer library for the CPU.
#include "bench/peer.h"

namespace tenon::bench {

const char* cpu_peer_name() { return ""; }

void set_peer_threads(int) {}

std::function<void()> cpu_peer_matmul(const MatmulArgs&) { return {}; }

}  // namespace tenon::bench
