// SPDX-License-Identifier: Apache-2.0
#include "bench/peer.h"

namespace tenon::bench {

const char* peer_name(Device device) {
  return device == Device::kCPU ? cpu_peer_name() : cuda_peer_name();
}

std::function<void()> peer_matmul(Device device, const MatmulArgs& args) {
  return device == Device::kCPU ? cpu_peer_matmul(args) : cuda_peer_matmul(args);
}

}  // namespace tenon::bench
