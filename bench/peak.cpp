// SPDX-License-Identifier: Apache-2.0
#include "bench/peak.h"

#include <immintrin.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "core/parallel_for.h"

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

// The same for the dot products of narrow numbers, which have no vector types of the language.
#define TENON_DOT_CHAINS(Sum, Part, dot)                                                   \
  constexpr int kChains = 24;                                                              \
  Sum sum[kChains]; /* that differ, or the compiler makes one chain of them */             \
  _Pragma("GCC unroll 32") for (int i = 0; i < kChains; ++i) sum[i] =                      \
      Sum{} + static_cast<Element>(i);                                                     \
  const Part a = Part{} + static_cast<Lane>(x), b = Part{} + static_cast<Lane>(1);         \
  for (int64_t n = 0; n < steps; ++n) {                                                    \
    _Pragma("GCC unroll 32") for (int i = 0; i < kChains; ++i) sum[i] = dot(sum[i], a, b); \
  }                                                                                        \
  Sum total = sum[0];                                                                      \
  _Pragma("GCC unroll 32") for (int i = 1; i < kChains; ++i) total += sum[i];              \
  return static_cast<float>(total[0])

[[gnu::target("avx512f,avx512bf16"), gnu::optimize("O3")]] float chains_bf16(int64_t steps,
                                                                             float x) {
  using Lane = short;
  using Element = float;
  using Sum [[gnu::vector_size(64)]] = float;
  using Part [[gnu::vector_size(64)]] = short;
  TENON_DOT_CHAINS(Sum, Part, __builtin_ia32_dpbf16ps_v16sf);
}
[[gnu::target("avx512f,avx512vnni"), gnu::optimize("O3")]] float chains_int8(int64_t steps,
                                                                             float x) {
  using Lane = int;
  using Element = int;
  using Sum [[gnu::vector_size(64)]] = int;
  using Part [[gnu::vector_size(64)]] = int;
  TENON_DOT_CHAINS(Sum, Part, __builtin_ia32_vpdpbusd_v16si);
}

struct Chains {
  const char* isa;
  float (*run)(int64_t steps, float x);
  double operations;  // a step
};

const Chains& fma_chains() {
  static const Chains best = __builtin_cpu_supports("avx512f")
                                 ? Chains{"avx512", chains_avx512, 2.0 * 24 * 16}
                             : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                                 ? Chains{"avx2", chains_avx2, 2.0 * 12 * 8}
                                 : Chains{"sse2", chains_sse2, 2.0 * 12 * 4};
  return best;
}

// `run` is null where the CPU has no such units.
Chains chains_of(Units units) {
  if (units == Units::kBF16Dot)
    return {"avx512_bf16", __builtin_cpu_supports("avx512bf16") ? chains_bf16 : nullptr,
            2.0 * 24 * 32};
  if (units == Units::kInt8Dot)
    return {"avx512_vnni", __builtin_cpu_supports("avx512vnni") ? chains_int8 : nullptr,
            2.0 * 24 * 64};
  return fma_chains();
}

// Puts the calling thread on the number-th core that the process may use: two that share one would
// measure half of the machine.
void stay_on_core(int number) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) == 0) return;
  number %= CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || number-- > 0) continue;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    return;
  }
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
      stay_on_core(thread);
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

// Bytes on large pages where the system gives them, as the engine's own memory is: on small ones the
// same copy reaches two thirds of the bandwidth.
using Pages = std::unique_ptr<char, void (*)(void*)>;

Pages pages(size_t bytes, int value) {
  Pages block(static_cast<char*>(std::aligned_alloc(size_t{2} << 20, bytes)), std::free);
  if (block == nullptr) throw std::bad_alloc();
  madvise(block.get(), bytes, MADV_HUGEPAGE);
  std::memset(block.get(), value, bytes);
  return block;
}

int64_t copied_bytes(int64_t last_cache) {
  constexpr int64_t kLeast = int64_t{64} << 20, kMost = int64_t{256} << 20,
                    kUnit = int64_t{2} << 20;
  return std::clamp(4 * last_cache, kLeast, kMost) / kUnit * kUnit;
}

void copy_by_library(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }

// Without reading what is about to be overwritten, which the library does up to some size.
void copy_past_cache(char* to, const char* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) {
    for (size_t i = at; i < at + 64; i += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                       _mm_load_si128(reinterpret_cast<const __m128i*>(from + i)));
    }
  }
  _mm_sfence();
}

}  // namespace

const char* peak_isa() { return fma_chains().isa; }

double peak_gflops(Units units, int threads) {
  constexpr int64_t kSteps = 1'000'000;
  const Chains chains = chains_of(units);
  if (chains.run == nullptr) return 0;
  std::atomic<float> sink = 0;  // keeps the sums alive
  const double seconds = best_seconds(threads, [&](int) { sink = chains.run(kSteps, 0.999f); });
  return threads * static_cast<double>(kSteps) * chains.operations / seconds * 1e-9;
}

Copy::Copy(int64_t last_cache)
    : bytes_(copied_bytes(last_cache)),
      from_(pages(static_cast<size_t>(bytes_), 1)),
      to_(pages(static_cast<size_t>(bytes_), 2)) {}

void Copy::run() {
  constexpr int64_t kPart = int64_t{1} << 20;
  const auto part = [](void* context, int64_t chunk) {
    auto* copy = static_cast<Copy*>(context);
    copy_past_cache(copy->to_.get() + chunk * kPart, copy->from_.get() + chunk * kPart, kPart);
  };
  parallel_for(bytes_ / kPart, part, this);
}

double copy_bandwidth(int threads, int64_t last_cache) {
  const auto bytes = static_cast<size_t>(copied_bytes(last_cache));
  std::vector<Pages> from, to;
  for (int thread = 0; thread < threads; ++thread) {
    from.push_back(pages(bytes, 1));
    to.push_back(pages(bytes, 2));
  }
  double best = 1e30;
  for (void (*copy)(char*, const char*, size_t) : {copy_by_library, copy_past_cache}) {
    best = std::min(best, best_seconds(threads, [&](int thread) {
                      const auto t = static_cast<size_t>(thread);
                      copy(to[t].get(), from[t].get(), bytes);
                    }));
  }
  return 2.0 * threads * static_cast<double>(bytes) / best * 1e-9;
}

}  // namespace tenon::bench
