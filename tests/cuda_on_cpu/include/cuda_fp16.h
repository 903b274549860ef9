// SPDX-License-Identifier: Apache-2.0
// Stands in for CUDA's header: __half and __half2, their conversions and their bits. Arithmetic on
// them is left out on purpose: kernels compute in fp32.
#pragma once

#include <cuda_runtime.h>

namespace tenon::cuda_on_cpu {
float half_to_float(uint16_t bits);
uint16_t float_to_half(float value);  // to nearest, ties to even
}  // namespace tenon::cuda_on_cpu

struct __half_raw {
  uint16_t x;
};
struct __half {
  __half() = default;
  constexpr __half(__half_raw raw) : bits(raw.x) {}
  explicit __half(float value) : bits(tenon::cuda_on_cpu::float_to_half(value)) {}
  explicit operator float() const { return tenon::cuda_on_cpu::half_to_float(bits); }
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

template <>
inline constexpr bool tenon::cuda_on_cpu::kCanShuffle<__half> = true;
template <>
inline constexpr bool tenon::cuda_on_cpu::kCanShuffle<__half2> = true;

inline __half __ushort_as_half(unsigned short bits) { return __half(__half_raw{bits}); }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline float __half2float(__half value) { return static_cast<float>(value); }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline float __low2float(__half2 v) { return __half2float(v.x); }
inline float __high2float(__half2 v) { return __half2float(v.y); }
