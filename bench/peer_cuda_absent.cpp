// SPDX-License-Identifier: Apache-2.0
// The build has no CUDA, and no peer on it.
#include "bench/peer.h"

namespace tenon::bench {

const char* cuda_peer_name() { return ""; }

std::function<void()> cuda_peer_matmul(const MatmulArgs&) { return {}; }

}  // namespace tenon::bench
