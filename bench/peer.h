// SPDX-License-Identifier: Apache-2.0
// The libraries that products are timed beside: oneDNN, OpenBLAS and Eigen on the CPU, cuBLASLt on a
// card; those of them that this build and machine have. Those in Python are in bench/peers.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/kernel_table.h"

namespace tenon::bench {

struct Peer {
  std::string name, version;  // "oneDNN", "oneDNN 2.6.3"
  // A function that does what matmul(args) does; empty where the peer cannot (K in two parts, mixed
  // dtypes, accumulation, an epilogue). What `args` points at must stay alive.
  std::function<std::function<void()>(const MatmulArgs& args)> matmul;
  // For how many seconds its threads spin when a product is done.
  double quiet = 0;
};

// The peers on a device, each with as many threads as thread_count() was at the first call.
const std::vector<Peer>& peers_of(Device device);

// One for each library, in a file of its own; nothing where the build or the machine has none.
std::optional<Peer> onednn_peer(int threads);
std::optional<Peer> openblas_peer(int threads);
std::optional<Peer> eigen_peer(int threads);
std::optional<Peer> cublaslt_peer();

// c = op(a) op(b) of one dtype, and nothing else.
bool is_plain_product(const MatmulArgs& args);

}  // namespace tenon::bench
