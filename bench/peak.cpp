// SPDX-License-Identifier: Apache-2.0
#include "bench/peak.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

namespace tenon::bench {
namespace {

constexpr int kRuns = 5;

// kChains sums that do not depend on each other: more than latency times units (at most 10) of any
// x86-64. The code is a macro because a function with target(...) cannot be inlined from a template
// without it.
#define TENON_FMA_CHAINS(kLanes, kChains)                                                        \
  using Vector [[gnu::vector_size(kLanes * sizeof(float))]] = float;                             \
  Vector sum[kChains], factor = Vector{} + x, shift = Vector{} + x / 2;                          \
  _Pragma("GCC unroll 32") for (int i = 0; i < kChains; ++i) sum[i] =                            \
      factor * static_cast<float>(i);                                                            \
  for (int64_t n = 0; n < steps; ++n) {                                                          \
    _Pragma("GCC unroll 32") for (int i = 0; i < kChains; ++i) sum[i] = sum[i] * factor + shift; \
  }                                                                                              \
  Vector total = sum[0];                                                                         \
  _Pragma("GCC unroll 32") for (int i = 1; i < kChains; ++i) total += sum[i];                    \
  return total[0]

[[gnu::target("avx512f"), gnu::optimize("O3,fp-contract=fast")]] float chains_avx512(int64_t steps,
                                                                                     float x) {
  TENON_FMA_CHAINS(16, 24);
}
[[gnu::target("avx2,fma"), gnu::optimize("O3,fp-contract=fast")]] float chains_avx2(int64_t steps,
                                                                                    float x) {
  TENON_FMA_CHAINS(8, 12);
}
[[gnu::optimize("O3")]] float chains_sse2(int64_t steps, float x) { TENON_FMA_CHAINS(4, 12); }

struct Chains {
  const char* isa;
  float (*run)(int64_t steps, float x);
  double operations;  // a step
};

const Chains& chains() {
  static const Chains best = __builtin_cpu_supports("avx512f")
                                 ? Chains{"avx512", chains_avx512, 2.0 * 24 * 16}
                             : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                                 ? Chains{"avx2", chains_avx2, 2.0 * 12 * 8}
                                 : Chains{"sse2", chains_sse2, 2.0 * 12 * 4};
  return best;
}

// The shortest time of several runs of body(thread) on `threads` threads that start together.
double best_seconds(int threads, const std::function<void(int)>& body) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  Clock::time_point begin;
  std::barrier start(threads, [&]() noexcept { begin = Clock::now(); });
  std::barrier finish(threads, [&]() noexcept {
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  });
  std::vector<std::jthread> team;
  for (int thread = 0; thread < threads; ++thread) {
    team.emplace_back([&, thread] {
      for (int run = 0; run < kRuns; ++run) {
        start.arrive_and_wait();
        body(thread);
        finish.arrive_and_wait();
      }
    });
  }
  team.clear();
  return best;
}

}  // namespace

const char* peak_isa() { return chains().isa; }

double peak_gflops(int threads) {
  constexpr int64_t kSteps = 2'000'000;
  std::atomic<float> sink = 0;  // keeps the sums alive
  const double seconds = best_seconds(threads, [&](int) { sink = chains().run(kSteps, 0.999f); });
  return threads * static_cast<double>(kSteps) * chains().operations / seconds * 1e-9;
}

double copy_bandwidth(int threads) {
  constexpr size_t kBytes = size_t{64} << 20;
  std::vector<std::vector<char>> from(static_cast<size_t>(threads)), to(from.size());
  for (size_t t = 0; t < from.size(); ++t) {
    from[t].assign(kBytes, 1);
    to[t].assign(kBytes, 2);
  }
  const double seconds = best_seconds(threads, [&](int thread) {
    const auto t = static_cast<size_t>(thread);
    std::memcpy(to[t].data(), from[t].data(), kBytes);
  });
  return 2.0 * threads * static_cast<double>(kBytes) / seconds * 1e-9;
}

}  // namespace tenon::bench
