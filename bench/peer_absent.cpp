// SPDX-License-Identifier: Apache-2.0
// The build has no peer library.
#include "bench/peer.h"

namespace tenon::bench {

const char* peer_name() { return ""; }

void set_peer_threads(int) {}

std::function<void()> peer_matmul(const MatmulArgs&) { return {}; }

}  // namespace tenon::bench
