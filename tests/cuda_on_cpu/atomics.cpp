// SPDX-License-Identifier: Apache-2.0
// CUDA's atomics, and the functions that gcc's -fsanitize=thread calls for C++'s.
#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

// Replaces *at by change(*at) in one piece and returns what was there.
template <class T, class Change>
T update(T* at, const char* function, Change change) {
  current_worker(function);
  check_atomic(at, sizeof(T));
  T old;
  __atomic_load(at, &old, __ATOMIC_SEQ_CST);
  T wanted = change(old);
  while (!__atomic_compare_exchange(at, &old, &wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
    wanted = change(old);
  return old;
}

}  // namespace
}  // namespace tenon::cuda_on_cpu

using tenon::cuda_on_cpu::update;

#define TENON_ATOMIC(name, T, expression)                                            \
  T name(T* at, T value) {                                                           \
    return update(at, #name, [value](T old) { return static_cast<T>(expression); }); \
  }
#define TENON_ATOMIC_CAS(T)                                                               \
  T atomicCAS(T* at, T expected, T value) {                                               \
    return update(at, "atomicCAS", [=](T old) { return old == expected ? value : old; }); \
  }

TENON_ATOMIC(atomicAdd, int, static_cast<unsigned>(old) + static_cast<unsigned>(value))
TENON_ATOMIC(atomicAdd, unsigned, old + value)
TENON_ATOMIC(atomicAdd, unsigned long long, old + value)
TENON_ATOMIC(atomicAdd, float, old + value)
TENON_ATOMIC(atomicAdd, double, old + value)
TENON_ATOMIC(atomicSub, int, static_cast<unsigned>(old) - static_cast<unsigned>(value))
TENON_ATOMIC(atomicSub, unsigned, old - value)
TENON_ATOMIC(atomicMax, int, old < value ? value : old)
TENON_ATOMIC(atomicMax, unsigned, old < value ? value : old)
TENON_ATOMIC(atomicMax, unsigned long long, old < value ? value : old)
TENON_ATOMIC(atomicMin, int, value < old ? value : old)
TENON_ATOMIC(atomicMin, unsigned, value < old ? value : old)
TENON_ATOMIC(atomicMin, unsigned long long, value < old ? value : old)
TENON_ATOMIC(atomicAnd, int, old& value)
TENON_ATOMIC(atomicAnd, unsigned, old& value)
TENON_ATOMIC(atomicOr, int, old | value)
TENON_ATOMIC(atomicOr, unsigned, old | value)
TENON_ATOMIC(atomicXor, int, old ^ value)
TENON_ATOMIC(atomicXor, unsigned, old ^ value)
TENON_ATOMIC(atomicExch, int, (static_cast<void>(old), value))
TENON_ATOMIC(atomicExch, unsigned, (static_cast<void>(old), value))
TENON_ATOMIC(atomicExch, unsigned long long, (static_cast<void>(old), value))
TENON_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
TENON_ATOMIC_CAS(int)
TENON_ATOMIC_CAS(unsigned)
TENON_ATOMIC_CAS(unsigned long long)

// Host code of a .cu file uses these (shared_ptr, static initialisation); they do what was asked.
#define TENON_TSAN_ATOMIC(bits, T)                                                             \
  T __tsan_atomic##bits##_load(const volatile T* at, int) {                                    \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                              \
  }                                                                                            \
  void __tsan_atomic##bits##_store(volatile T* at, T value, int) {                             \
    __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                             \
  }                                                                                            \
  T __tsan_atomic##bits##_exchange(volatile T* at, T value, int) {                             \
    return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                   \
  }                                                                                            \
  T __tsan_atomic##bits##_fetch_add(volatile T* at, T value, int) {                            \
    return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);                                    \
  }                                                                                            \
  T __tsan_atomic##bits##_fetch_sub(volatile T* at, T value, int) {                            \
    return __atomic_fetch_sub(at, value, __ATOMIC_SEQ_CST);                                    \
  }                                                                                            \
  T __tsan_atomic##bits##_fetch_and(volatile T* at, T value, int) {                            \
    return __atomic_fetch_and(at, value, __ATOMIC_SEQ_CST);                                    \
  }                                                                                            \
  T __tsan_atomic##bits##_fetch_or(volatile T* at, T value, int) {                             \
    return __atomic_fetch_or(at, value, __ATOMIC_SEQ_CST);                                     \
  }                                                                                            \
  T __tsan_atomic##bits##_fetch_xor(volatile T* at, T value, int) {                            \
    return __atomic_fetch_xor(at, value, __ATOMIC_SEQ_CST);                                    \
  }                                                                                            \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* at, T* expected, T value, int, \
                                                    int) {                                     \
    return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST,           \
                                       __ATOMIC_SEQ_CST);                                      \
  }                                                                                            \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* at, T* expected, T value, int,   \
                                                  int) {                                       \
    return __atomic_compare_exchange_n(at, expected, value, true, __ATOMIC_SEQ_CST,            \
                                       __ATOMIC_SEQ_CST);                                      \
  }

extern "C" {
TENON_TSAN_ATOMIC(8, uint8_t)
TENON_TSAN_ATOMIC(16, uint16_t)
TENON_TSAN_ATOMIC(32, uint32_t)
TENON_TSAN_ATOMIC(64, uint64_t)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
}
