// SPDX-License-Identifier: Apache-2.0
// matmul_bench [--threads N] [NAME...]: measures the machine, then matmul at the named shapes
// (default: all).
#include <fmt/core.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "bench/matmul_bench.h"
#include "bench/peak.h"
#include "bench/peer.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel_for.h"

namespace tenon::bench {
namespace {

void run(const std::vector<std::string>& arguments) {
  std::vector<std::string> names;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--threads") {
      const int count = i + 1 < arguments.size() ? std::atoi(arguments[++i].c_str()) : 0;
      if (count < 1) fail_input("--threads: expected a number from 1 on");
      set_thread_count(count);
    } else {
      names.push_back(arguments[i]);
    }
  }
  const int threads = thread_count();
  set_peer_threads(threads);
  const double one = peak_gflops(1), all = peak_gflops(threads);
  fmt::print(
      "table {}, {} threads; peak ({}): {:.1f} GFLOP/s on 1 thread, {:.1f} on {}; copy {:.1f} "
      "GB/s; peer {}\n",
      kernels(Device::kCPU).name, threads, peak_isa(), one, all, threads, copy_bandwidth(threads),
      peer_name());
  for (const std::string& name : names) {
    bool known = false;
    for (const MatmulShape& shape : matmul_shapes()) known |= shape.name == name;
    if (!known) fail_input("{}: no shape of that name", printable(name));
  }
  for (const MatmulShape& shape : matmul_shapes()) {
    bool wanted = names.empty();
    for (const std::string& name : names) wanted |= shape.name == name;
    if (!wanted) continue;
    fmt::print("{}\n",
               describe(shape, run_matmul_bench(kernels(Device::kCPU), shape, 7, 0.3), all));
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace tenon::bench

int main(int argc, char** argv) {
  try {
    tenon::bench::run({argv + 1, argv + argc});
    return 0;
  } catch (const tenon::Error& error) {
    fmt::print(stderr, "matmul_bench: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
