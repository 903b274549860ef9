// SPDX-License-Identifier: Apache-2.0
#include "bench/peer.h"

#include "core/parallel_for.h"

namespace tenon::bench {

const std::vector<Peer>& peers_of(Device device) {
  const auto present = [](std::vector<std::optional<Peer>> all) {
    std::vector<Peer> peers;
    for (std::optional<Peer>& peer : all) {
      if (peer) peers.push_back(std::move(*peer));
    }
    return peers;
  };
  if (device != Device::kCPU) {
    static const std::vector<Peer> card = present({cublaslt_peer()});
    return card;
  }
  static const int threads = thread_count();
  static const std::vector<Peer> cpu =
      present({onednn_peer(threads), openblas_peer(threads), eigen_peer(threads)});
  return cpu;
}

bool is_plain_product(const MatmulArgs& a) {
  return a.k2 == 0 && !a.accumulate && a.alpha == 1.0f && a.a.dtype == a.b.dtype &&
         a.bias == nullptr && a.add == nullptr && a.t == nullptr && a.epilogue == Epilogue::kNone &&
         a.a.dtype != DType::kI8;
}

}  // namespace tenon::bench
