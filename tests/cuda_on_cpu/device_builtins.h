// SPDX-License-Identifier: Apache-2.0
// What CUDA C++ gives to a kernel without an include: keywords, threadIdx and its kin, barriers,
// warp collectives, atomics. Barriers and collectives note the source line that asks for them, so
// that threads which meet at different lines are told apart.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "tests/cuda_on_cpu/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

namespace tenon::cuda_on_cpu {

// gnu::const: within one thread of a kernel these never change, so the compiler may ask once.
[[gnu::const]] uint3 thread_index() noexcept;
[[gnu::const]] uint3 block_index() noexcept;
[[gnu::const]] dim3 block_extent() noexcept;
[[gnu::const]] dim3 grid_extent() noexcept;

struct SourceLine {
  const char* file = nullptr;
  int line = 0;
};

enum class Shuffle { kIndex, kUp, kDown, kXor };
enum class Vote { kAll, kAny, kBallot };
enum class BlockVote { kOr, kAnd, kCount };

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int operand, int width,
                 SourceLine line);
unsigned vote(Vote kind, unsigned mask, int predicate, SourceLine line);
int block_vote(BlockVote kind, int predicate, SourceLine line);
void block_barrier(SourceLine line);
void warp_barrier(unsigned mask, SourceLine line);
unsigned active_lanes();

// Types that __shfl_sync takes; the fp16 and bf16 headers add theirs.
template <class T>
inline constexpr bool kCanShuffle =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, long> ||
    std::is_same_v<T, unsigned long> || std::is_same_v<T, long long> ||
    std::is_same_v<T, unsigned long long> || std::is_same_v<T, float> || std::is_same_v<T, double>;

template <class T>
T shuffle_value(Shuffle kind, unsigned mask, T value, int operand, int width, SourceLine line) {
  static_assert(kCanShuffle<T>, "CUDA has no shuffle of this type");
  if constexpr (sizeof(T) == 8) {
    return std::bit_cast<T>(
        shuffle(kind, mask, std::bit_cast<uint64_t>(value), operand, width, line));
  } else if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(static_cast<uint32_t>(
        shuffle(kind, mask, std::bit_cast<uint32_t>(value), operand, width, line)));
  } else {
    return std::bit_cast<T>(static_cast<uint16_t>(
        shuffle(kind, mask, std::bit_cast<uint16_t>(value), operand, width, line)));
  }
}

}  // namespace tenon::cuda_on_cpu

#define threadIdx (::tenon::cuda_on_cpu::thread_index())
#define blockIdx (::tenon::cuda_on_cpu::block_index())
#define blockDim (::tenon::cuda_on_cpu::block_extent())
#define gridDim (::tenon::cuda_on_cpu::grid_extent())
inline constexpr int warpSize = 32;

#define TENON_LINE_PARAMETERS const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(TENON_LINE_PARAMETERS) {
  tenon::cuda_on_cpu::block_barrier({file, line});
}
inline int __syncthreads_or(int predicate, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::block_vote(tenon::cuda_on_cpu::BlockVote::kOr, predicate,
                                        {file, line});
}
inline int __syncthreads_and(int predicate, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::block_vote(tenon::cuda_on_cpu::BlockVote::kAnd, predicate,
                                        {file, line});
}
inline int __syncthreads_count(int predicate, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::block_vote(tenon::cuda_on_cpu::BlockVote::kCount, predicate,
                                        {file, line});
}
inline void __syncwarp(unsigned mask = 0xffffffffu, TENON_LINE_PARAMETERS) {
  tenon::cuda_on_cpu::warp_barrier(mask, {file, line});
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::shuffle_value(tenon::cuda_on_cpu::Shuffle::kIndex, mask, value, lane,
                                           width, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::shuffle_value(tenon::cuda_on_cpu::Shuffle::kUp, mask, value,
                                           static_cast<int>(delta), width, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::shuffle_value(tenon::cuda_on_cpu::Shuffle::kDown, mask, value,
                                           static_cast<int>(delta), width, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::shuffle_value(tenon::cuda_on_cpu::Shuffle::kXor, mask, value, lanes,
                                           width, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, int predicate, TENON_LINE_PARAMETERS) {
  return tenon::cuda_on_cpu::vote(tenon::cuda_on_cpu::Vote::kBallot, mask, predicate, {file, line});
}
inline int __any_sync(unsigned mask, int predicate, TENON_LINE_PARAMETERS) {
  return static_cast<int>(
      tenon::cuda_on_cpu::vote(tenon::cuda_on_cpu::Vote::kAny, mask, predicate, {file, line}));
}
inline int __all_sync(unsigned mask, int predicate, TENON_LINE_PARAMETERS) {
  return static_cast<int>(
      tenon::cuda_on_cpu::vote(tenon::cuda_on_cpu::Vote::kAll, mask, predicate, {file, line}));
}
#undef TENON_LINE_PARAMETERS
inline unsigned __activemask() { return tenon::cuda_on_cpu::active_lanes(); }

// Atomics are functions of the harness, not of the kernel's own object: they are checked as atomic.
int atomicAdd(int* at, int value);
unsigned atomicAdd(unsigned* at, unsigned value);
unsigned long long atomicAdd(unsigned long long* at, unsigned long long value);
float atomicAdd(float* at, float value);
double atomicAdd(double* at, double value);
int atomicSub(int* at, int value);
unsigned atomicSub(unsigned* at, unsigned value);
int atomicMax(int* at, int value);
unsigned atomicMax(unsigned* at, unsigned value);
unsigned long long atomicMax(unsigned long long* at, unsigned long long value);
int atomicMin(int* at, int value);
unsigned atomicMin(unsigned* at, unsigned value);
unsigned long long atomicMin(unsigned long long* at, unsigned long long value);
int atomicAnd(int* at, int value);
unsigned atomicAnd(unsigned* at, unsigned value);
int atomicOr(int* at, int value);
unsigned atomicOr(unsigned* at, unsigned value);
int atomicXor(int* at, int value);
unsigned atomicXor(unsigned* at, unsigned value);
int atomicExch(int* at, int value);
unsigned atomicExch(unsigned* at, unsigned value);
unsigned long long atomicExch(unsigned long long* at, unsigned long long value);
float atomicExch(float* at, float value);
int atomicCAS(int* at, int expected, int value);
unsigned atomicCAS(unsigned* at, unsigned expected, unsigned value);
unsigned long long atomicCAS(unsigned long long* at, unsigned long long expected,
                             unsigned long long value);

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
[[noreturn]] void __trap();
