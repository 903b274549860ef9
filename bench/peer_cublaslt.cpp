// SPDX-License-Identifier: Apache-2.0
// The library's way of a product by itself, whatever matmul would choose.
#include <cublasLt.h>

#include <string>

#include "bench/peer.h"
#include "core/backend.h"
#include "kernels/cuda/matmul_choice.h"

namespace tenon::bench {

const char* cuda_peer_name() {
  static const std::string name =
      "cuBLASLt " + std::to_string(CUBLAS_VER_MAJOR) + "." + std::to_string(CUBLAS_VER_MINOR);
  return name.c_str();
}

std::function<void()> cuda_peer_matmul(const MatmulArgs& args) {
  return [args] {
    cuda::set_matmul_path(cuda::MatmulPath::kLibrary);
    kernels(Device::kCUDA).matmul(args);
    cuda::set_matmul_path(cuda::MatmulPath::kAutomatic);
  };
}

}  // namespace tenon::bench
