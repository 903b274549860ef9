// SPDX-License-Identifier: Apache-2.0
// Element conversions for tests, in double arithmetic: they share no code with the kernels that
// they check.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "core/dtype.h"

namespace tenon::test {

// What a float format is: stored mantissa bits, exponent of its smallest normal number, its largest
// exponent.
struct FloatFormat {
  int mantissa_bits, min_exponent, max_exponent;
};

inline FloatFormat format_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return {23, -126, 127};
    case DType::kBF16: return {7, -126, 127};
    case DType::kF16: return {10, -14, 15};
    default: throw std::logic_error("not a float dtype");
  }
}

// Half the distance from 1 to the next number: the relative error of one rounding (of a normal
// number).
inline double unit_roundoff(DType dtype) {
  return std::ldexp(1.0, -1 - format_of(dtype).mantissa_bits);
}

// Half the smallest subnormal number: the absolute error of one rounding near zero.
inline double underflow_error(DType dtype) {
  const FloatFormat f = format_of(dtype);
  return std::ldexp(0.5, f.min_exponent - f.mantissa_bits);
}

// The value of `dtype` nearest to x (ties to even); overflow becomes infinity, NaN stays NaN.
inline double round_to(DType dtype, double x) {
  if (x == 0 || !std::isfinite(x)) return x;
  const FloatFormat f = format_of(dtype);
  const int exponent = std::max(std::ilogb(x), f.min_exponent);
  const double spacing = std::ldexp(1.0, exponent - f.mantissa_bits);
  const double rounded = std::nearbyint(x / spacing) * spacing;
  if (std::fabs(rounded) >= std::ldexp(1.0, f.max_exponent + 1)) return std::copysign(INFINITY, x);
  return rounded;
}

// The 16 bits of x rounded to kBF16 or kF16.
inline uint16_t half_bits(DType dtype, double x) {
  const FloatFormat f = format_of(dtype);
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const uint16_t infinity =
      static_cast<uint16_t>((f.max_exponent - f.min_exponent + 2) << f.mantissa_bits);
  if (std::isnan(x)) return sign | infinity | static_cast<uint16_t>(1 << (f.mantissa_bits - 1));
  const double value = std::fabs(round_to(dtype, x));
  if (std::isinf(value)) return sign | infinity;
  if (value == 0) return sign;
  // Counted in smallest subnormals, numbers of one exponent are contiguous, and the bits of the
  // next one follow on.
  const int exponent = std::max(std::ilogb(value), f.min_exponent);
  const auto steps = static_cast<int64_t>(std::ldexp(value, f.mantissa_bits - exponent));
  return sign | static_cast<uint16_t>(((exponent - f.min_exponent) << f.mantissa_bits) + steps);
}

// The value of 16 bits of kBF16 or kF16.
inline double half_value(DType dtype, uint16_t bits) {
  const FloatFormat f = format_of(dtype);
  const int field = (bits & 0x7FFF) >> f.mantissa_bits;
  const int mantissa = bits & ((1 << f.mantissa_bits) - 1);
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (field == f.max_exponent - f.min_exponent + 2) return mantissa != 0 ? NAN : sign * INFINITY;
  if (field == 0) return sign * std::ldexp(mantissa, f.min_exponent - f.mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << f.mantissa_bits),
                           field - 1 + f.min_exponent - f.mantissa_bits);
}

// Element `i` of an array of dtype kF32, kBF16 or kF16.
inline double load_element(DType dtype, const void* data, int64_t i) {
  const char* at = static_cast<const char*>(data) + i * size_of(dtype);
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof(bits));
  return half_value(dtype, bits);
}

// Stores x, rounded to dtype, as element `i`.
inline void store_element(DType dtype, void* data, int64_t i, double x) {
  char* at = static_cast<char*>(data) + i * size_of(dtype);
  if (dtype == DType::kF32) {
    const float value = static_cast<float>(x);
    std::memcpy(at, &value, sizeof(value));
    return;
  }
  const uint16_t bits = half_bits(dtype, x);
  std::memcpy(at, &bits, sizeof(bits));
}

}  // namespace tenon::test
