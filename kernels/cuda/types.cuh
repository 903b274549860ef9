// SPDX-License-Identifier: Apache-2.0
// What CUDA kernels are written with: elements that widen to fp32 and round once on the way back,
// several of them at a time, and launch shapes.
//
//   to_float(x), from_float<T>(x)   float, bf16 or f16; rounds to nearest even, NaN stays NaN
//   load<N>(p), store(p, x)         N consecutive elements as Floats<N>, 16 bytes at a time;
//                                   p is aligned to N elements, or to 16 bytes if that is less
//   load<N>(p, left, aligned),      the first `left` of them, one by one where `aligned` is false:
//     store(p, x, left, aligned)    further elements are 0, further memory is not touched
#pragma once

#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "kernels/cuda/launch.cuh"

namespace tenon::cuda::TENON_SM {

constexpr int kWarp = 32;
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

__host__ __device__ constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
__host__ __device__ constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
__host__ __device__ constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
  return __float2half_rn(x);
}

// The value that storing as T and loading again gives.
template <class T>
__device__ __forceinline__ float rounded_to(float x) {
  return to_float(from_float<T>(x));
}

template <int N>
struct Floats {
  float value[N];
  __device__ __forceinline__ float& operator[](int i) { return value[i]; }
  __device__ __forceinline__ float operator[](int i) const { return value[i]; }
};

// The widest load of a run of kBytes.
template <int kBytes>
struct Word {
  using Type = uint4;
};
template <>
struct Word<8> {
  using Type = uint2;
};
template <>
struct Word<4> {
  using Type = uint32_t;
};
template <>
struct Word<2> {
  using Type = uint16_t;
};

template <int N, class T>
__device__ __forceinline__ Floats<N> load(const T* p) {
  using W = typename Word<N * sizeof(T)>::Type;
  constexpr int kWords = N * sizeof(T) / sizeof(W), kEach = sizeof(W) / sizeof(T);
  Floats<N> x;
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    const W word = reinterpret_cast<const W*>(p)[w];
    T element[kEach];
    memcpy(element, &word, sizeof(word));
#pragma unroll
    for (int i = 0; i < kEach; ++i) x[w * kEach + i] = to_float(element[i]);
  }
  return x;
}

template <int N, class T>
__device__ __forceinline__ void store(T* p, const Floats<N>& x) {
  using W = typename Word<N * sizeof(T)>::Type;
  constexpr int kWords = N * sizeof(T) / sizeof(W), kEach = sizeof(W) / sizeof(T);
#pragma unroll
  for (int w = 0; w < kWords; ++w) {
    T element[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) element[i] = from_float<T>(x[w * kEach + i]);
    W word;
    memcpy(&word, element, sizeof(word));
    reinterpret_cast<W*>(p)[w] = word;
  }
}

template <int N, class T>
__device__ __forceinline__ Floats<N> load(const T* p, int64_t left, bool aligned) {
  if (aligned && left >= N) return load<N>(p);
  Floats<N> x;
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = i < left ? to_float(p[i]) : 0.0f;
  return x;
}

template <int N, class T>
__device__ __forceinline__ void store(T* p, const Floats<N>& x, int64_t left, bool aligned) {
  if (aligned && left >= N) return store(p, x);
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < left) p[i] = from_float<T>(x[i]);
  }
}

// Calls body.operator()<T>() with the element type of a floating dtype.
template <class Body>
void dispatch_float(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF32: return body.template operator()<float>();
    case DType::kBF16: return body.template operator()<bf16>();
    case DType::kF16: return body.template operator()<f16>();
    default: __builtin_trap();
  }
}

// Whether load<N> and store need no `aligned = false` for arrays of T that start at these
// addresses, of which some may be null, at multiples of N elements from there.
template <int N, class T, class... Pointers>
bool aligned_for(const Pointers*... p) {
  constexpr uintptr_t kBytes = N * sizeof(T) < 16 ? N * sizeof(T) : 16;
  return ((reinterpret_cast<uintptr_t>(p) % kBytes == 0) && ...);
}

inline dim3 extent(int64_t x, int64_t y = 1, int64_t z = 1) {
  return dim3(static_cast<uint32_t>(x), static_cast<uint32_t>(y), static_cast<uint32_t>(z));
}

}  // namespace tenon::cuda::TENON_SM
