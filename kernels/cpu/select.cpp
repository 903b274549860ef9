// SPDX-License-Identifier: Apache-2.0
// The CPU's kernel tables, best first. Compiled without ISA flags.
#include <algorithm>
#include <chrono>
#include <vector>

#include "core/backend.h"
#include "core/parallel_for.h"

namespace tenon::cpu {

namespace scalar {
extern const KernelTable table;
}
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
namespace avx512_bf16 {
extern const KernelTable table;
void matmul_widening(const MatmulArgs& args);
}  // namespace avx512_bf16

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0;
}

// For CPUs that have AVX512-BF16 and are slow at it: int8 alone is multiplied by instructions of its
// own.
const KernelTable& avx512_vnni_table() {
  static const KernelTable table = [] {
    KernelTable t = avx512::table;
    t.name = "avx512_vnni";
    t.matmul = avx512_bf16::matmul_widening;
    return t;
  }();
  return table;
}

// CPUs differ in how fast they multiply pairs of bf16: Zen 4 does it twice as fast as fp32, Emerald
// Rapids at 0.65 of that rate. So a small product is timed with both, in turn, on one thread; about
// 4 ms.
bool bf16_is_fast() {
  constexpr int64_t kRows = 192, kColumns = 192, kDepth = 768;
  constexpr int kRuns = 4;
  const std::vector<BF16> a(kRows * kDepth, BF16{0x3f80}), b(kDepth * kColumns, BF16{0x3f80});
  std::vector<float> c(kRows * kColumns);
  const MatmulArgs args = {.a = {.data = a.data(), .stride = kDepth, .dtype = DType::kBF16},
                           .b = {.data = b.data(), .stride = kColumns, .dtype = DType::kBF16},
                           .c = c.data(),
                           .c_stride = kColumns,
                           .m = kRows,
                           .n = kColumns,
                           .k = kDepth};
  const auto seconds = [&](const KernelTable& table) {
    const auto begin = std::chrono::steady_clock::now();
    table.matmul(args);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  const int threads = thread_count();
  set_thread_count(1);
  double pairs = 1e30, floats = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    floats = std::min(floats, seconds(avx512::table));
    pairs = std::min(pairs, seconds(avx512_bf16::table));
  }
  set_thread_count(threads);
  return pairs < floats;
}

}  // namespace

const std::vector<Implementation>& implementations() {
  static const std::vector<Implementation> list = {
      {&avx512_bf16::table, has_avx512_bf16, bf16_is_fast},
      {&avx512_vnni_table(), has_avx512_bf16},
      {&avx512::table, has_avx512},
      {&avx2::table,
       [] {
         return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
       }},
      {&scalar::table, [] { return true; }},
  };
  return list;
}

}  // namespace tenon::cpu
