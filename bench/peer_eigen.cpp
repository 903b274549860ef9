// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "bench/eigen_product.h"
#include "bench/peer.h"

namespace tenon::bench {

std::optional<Peer> eigen_peer(int threads) {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq")) return {};
  tenon_eigen_threads(threads);
  Peer peer;
  peer.name = "Eigen";
  peer.version = tenon_eigen_version();
  peer.quiet = threads > 1 ? 0.02 : 0;  // GNU's OpenMP
  peer.matmul = [](const MatmulArgs& args) -> std::function<void()> {
    if (!is_plain_product(args) || args.a.dtype != DType::kF32 || args.c_dtype != DType::kF32)
      return {};
    return [args] {
      const auto operand = [](const MatrixOperand& x) {
        return EigenOperand{static_cast<const float*>(x.data), x.stride, x.transposed};
      };
      tenon_eigen_product(operand(args.a), operand(args.b), static_cast<float*>(args.c),
                          args.c_stride, args.m, args.n, args.k);
    };
  };
  return peer;
}

}  // namespace tenon::bench
