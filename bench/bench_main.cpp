// SPDX-License-Identifier: Apache-2.0
// tenon-bench, which `tenon bench` runs: measures the machine, then the named kernels (default: all)
// at sizes of real models, each after its result was checked.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/kernel_bench.h"
#include "bench/matmul_bench.h"
#include "bench/peak.h"
#include "bench/peer.h"
#include "bench/timing.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel_for.h"

namespace tenon::bench {
namespace {

struct Options {
  std::vector<std::string> names;
  std::string device = "auto", dtype = "fp32";
  int threads = 0, runs = 7;
  double seconds = 0.3;
};

// A name chooses a kernel ("matmul", "attention") or one shape of matmul ("qkv_lora").
bool wanted(const Options& o, const std::string& kernel, const std::string& shape = "") {
  const auto is_named = [&](const std::string& name) {
    return std::find(o.names.begin(), o.names.end(), name) != o.names.end();
  };
  return o.names.empty() || is_named(kernel) || (!shape.empty() && is_named(shape));
}

void check_names(const Options& o, const std::vector<KernelCase>& cases) {
  std::vector<std::string> known = {"matmul"};
  for (const MatmulShape& shape : matmul_shapes()) known.push_back(shape.name);
  for (const KernelCase& each : cases) known.push_back(each.kernel);
  for (const std::string& name : o.names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    fail_input("{}: no kernel or shape of that name (did you mean {}?)", printable(name),
               nearest(name, known));
  }
}

// Bytes read and written by a copy on the card, in 10^9 a second.
double card_bandwidth() {
  const Tensor from = Tensor::zeros({int64_t{1} << 28}, DType::kU8, Device::kCUDA);
  const Tensor to = Tensor::empty_like(from);
  const double seconds = seconds_of(Device::kCUDA, 5, 0.1, [&] { Tensor(to).assign(from); });
  return 2e-9 * static_cast<double>(from.bytes()) / seconds;
}

// GFLOP/s that shares are taken of: FMA on registers on the CPU, and on a card the library's best at
// 4096^3 in this dtype.
double measure_machine(Device device, DType dtype) {
  if (device == Device::kCPU) {
    const int threads = thread_count();
    const double one = peak_gflops(1), all = peak_gflops(threads);
    fmt::print(
        "{}, {} threads; peak ({}): {:.1f} GFLOP/s on 1 thread, {:.1f} on {}; copy {:.1f} "
        "GB/s; peer {}\n",
        device_text(device), threads, peak_isa(), one, all, threads, copy_bandwidth(threads),
        peer_name(device));
    return all;
  }
  const MatmulShape square{
      .name = "square", .m = 4096, .n = 4096, .k = 4096, .a = dtype, .b = dtype, .c = dtype};
  const MatmulTiming timing = run_matmul_bench(device, square, 5, 0.2);
  const double peak = 2e-9 * 4096.0 * 4096.0 * 4096.0 / timing.peer_seconds;
  fmt::print("{}; peer {}: {:.1f} GFLOP/s at 4096^3 {}; copy {:.1f} GB/s\n", device_text(device),
             peer_name(device), peak, name_of(dtype), card_bandwidth());
  return peak;
}

void run_matmuls(const Options& o, Device device, DType dtype, double peak) {
  for (MatmulShape shape : matmul_shapes()) {
    if (!wanted(o, "matmul", shape.name)) continue;
    if (dtype != DType::kF32) {
      const bool half = shape.a != DType::kF32 || shape.b != DType::kF32;
      if (half) continue;  // its fp32 twin stands for it
      shape.a = shape.b = shape.c = dtype;
    }
    fmt::print("{}\n", describe(shape, run_matmul_bench(device, shape, o.runs, o.seconds), peak));
    std::fflush(stdout);
  }
}

void run(const Options& o) {
  const DType dtype = parse_dtype(o.dtype, "--dtype");
  const Device device = open_device(o.device);
  require_dtype(device, dtype);
  if (o.threads > 0) set_thread_count(o.threads);
  set_peer_threads(thread_count());
  const std::vector<KernelCase> cases = kernel_cases(dtype);
  check_names(o, cases);
  const double peak = measure_machine(device, dtype);
  run_matmuls(o, device, dtype, peak);
  for (const KernelCase& each : cases) {
    if (!wanted(o, each.kernel)) continue;
    const KernelTiming timing = run_kernel_bench(each, device, o.runs, o.seconds);
    std::string line =
        fmt::format("{:20} {:32} {:4} {:9.3f} ms {:7.1f} GB/s", each.kernel, each.size,
                    name_of(dtype), timing.seconds * 1e3, each.bytes / timing.seconds * 1e-9);
    if (each.operations > 0)
      line += fmt::format(" {:8.1f} GFLOP/s", each.operations / timing.seconds * 1e-9);
    fmt::print("{}  error {:.2f} of what is allowed\n", line, timing.worst);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace tenon::bench

int main(int argc, char** argv) {
  tenon::bench::Options options;
  CLI::App app("Times kernels beside the machine's peak and a peer library", "tenon bench");
  app.add_option("kernels", options.names, "Kernels or shapes of matmul (default: all)");
  app.add_option("--device", options.device, "cpu, cuda, cuda:N or auto")->capture_default_str();
  app.add_option("--dtype", options.dtype, "fp32, bf16 or fp16")->capture_default_str();
  app.add_option("--threads", options.threads, "Threads (default: the cores this process may use)")
      ->check(CLI::PositiveNumber);
  app.add_option("--runs", options.runs, "Least number of timed runs")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "Least time a kernel is run")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    tenon::bench::run(options);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    fmt::print(stderr, "tenon bench: error: {}\n", error.what());
    return static_cast<int>(tenon::Exit::kInput);
  } catch (const tenon::Error& error) {
    fmt::print(stderr, "tenon bench: error: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
