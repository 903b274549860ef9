// SPDX-License-Identifier: Apache-2.0
// The library's way of a product by itself, whatever matmul would choose.
#include <cublasLt.h>

#include <string>

#include "bench/peer.h"
#include "core/backend.h"
#include "kernels/cuda/matmul_choice.h"

namespace tenon::bench {

std::optional<Peer> cublaslt_peer() {
  Peer peer;
  peer.name = "cuBLASLt";
  peer.version =
      "cuBLASLt " + std::to_string(CUBLAS_VER_MAJOR) + "." + std::to_string(CUBLAS_VER_MINOR);
  peer.matmul = [](const MatmulArgs& args) -> std::function<void()> {
    return [args] {
      cuda::set_matmul_path(cuda::MatmulPath::kLibrary);
      kernels(Device::kCUDA).matmul(args);
      cuda::set_matmul_path(cuda::MatmulPath::kAutomatic);
    };
  };
  return peer;
}

}  // namespace tenon::bench
