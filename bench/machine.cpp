// SPDX-License-Identifier: Apache-2.0
#include "bench/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "bench/gemm.h"
#include "bench/peak.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel_for.h"
#include "core/tensor.h"

namespace tenon::bench {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

// The data or unified cache of this level, as core 0 sees it.
int64_t cache_bytes(int level) {
  const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index";
  for (int i = 0; i < 8; ++i) {
    const std::string at = folder + std::to_string(i) + "/";
    if (first_line(at + "level") != std::to_string(level)) continue;
    if (first_line(at + "type") == "Instruction") continue;
    const std::string size = first_line(at + "size");  // "32768K"
    if (!size.empty()) return std::stoll(size) * (size.back() == 'M' ? 1 << 20 : 1 << 10);
  }
  return 0;
}

// Bytes read and written by a copy on the card, in 10^9 a second.
double card_bandwidth() {
  const Tensor from = Tensor::zeros({int64_t{1} << 28}, DType::kU8, Device::kCUDA);
  const Tensor to = Tensor::empty_like(from);
  const Spread spread = time_alone(Device::kCUDA, {5, 0.1}, [&] { Tensor(to).assign(from); });
  return 2e-9 * static_cast<double>(from.bytes()) / spread.median;
}

// The library's best on the card at 4096^3.
double card_peak(DType dtype) {
  const GemmShape square{.m = 4096, .n = 4096, .k = 4096, .dtype = dtype};
  return 2e-9 * 4096.0 * 4096.0 * 4096.0 / peer_seconds(Device::kCUDA, square, {5, 0.2});
}

}  // namespace

double Machine::peak(DType dtype) const {
  if (dtype == DType::kBF16) return std::max(fma, bf16_dot);
  if (dtype == DType::kI8) return std::max(fma, int8_dot);
  return fma;
}

int64_t last_cache_bytes() { return std::max(cache_bytes(3), cache_bytes(2)); }

Machine measure_machine(Device device, DType dtype) {
  Machine m;
  m.device = device_text(device);
  m.table = kernels(device).name;
  m.cpu = cpu_model();
  cpu_set_t set;
  m.cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  m.threads = thread_count();
  m.l1 = cache_bytes(1);
  m.l2 = cache_bytes(2);
  m.l3 = cache_bytes(3);
  m.memory = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  if (device != Device::kCPU) {
    m.isa = "cuBLASLt, 4096^3";
    m.fma = m.fma_1 = card_peak(dtype);
    m.copy = m.copy_1 = card_bandwidth();
    return m;
  }
  m.isa = peak_isa();
  m.fma_1 = peak_gflops(Units::kFma, 1);
  m.copy_1 = copy_bandwidth(1, last_cache_bytes());
  m.fma = m.threads == 1 ? m.fma_1 : peak_gflops(Units::kFma, m.threads);
  m.copy = m.threads == 1 ? m.copy_1 : copy_bandwidth(m.threads, last_cache_bytes());
  m.bf16_dot = peak_gflops(Units::kBF16Dot, m.threads);
  m.int8_dot = peak_gflops(Units::kInt8Dot, m.threads);
  return m;
}

}  // namespace tenon::bench
