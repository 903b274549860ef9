// SPDX-License-Identifier: Apache-2.0
// The build has no CUDA, and no peer on it.
#include "bench/peer.h"

namespace tenon::bench {

std::optional<Peer> cublaslt_peer() { return {}; }

}  // namespace tenon::bench
