// SPDX-License-Identifier: Apache-2.0
// Vectors of one lane in plain C++: the table that every CPU can run. vec.h says what each function
// means.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace tenon::cpu::TENON_ISA {

struct Mask {
  bool m;
  static Mask first(int64_t n) { return {n > 0}; }
};
inline Mask operator&(Mask a, Mask b) { return {a.m && b.m}; }

struct IVec {
  static constexpr int kLanes = 1;
  uint32_t r;
  static IVec all(uint32_t x) { return {x}; }
  static IVec lane_index() { return {0}; }
  static IVec load(const uint32_t* p) { return {*p}; }
  void store(uint32_t* p) const { *p = r; }
};
inline IVec operator+(IVec a, IVec b) { return {a.r + b.r}; }
inline IVec operator^(IVec a, IVec b) { return {a.r ^ b.r}; }
inline Mask less_signed(IVec a, IVec b) {
  return {static_cast<int32_t>(a.r) < static_cast<int32_t>(b.r)};
}
inline Mask less_unsigned(IVec a, IVec b) { return {a.r < b.r}; }
inline IVec select(Mask m, IVec a, IVec b) { return m.m ? a : b; }

struct WideIVec {
  uint64_t r;
  static WideIVec all(uint32_t x) { return {x}; }
  static WideIVec from(IVec x) { return {x.r}; }
  IVec low() const { return {static_cast<uint32_t>(r)}; }
};
inline WideIVec operator^(WideIVec a, WideIVec b) { return {a.r ^ b.r}; }
inline WideIVec multiply_low(WideIVec a, WideIVec b) {
  return {uint64_t{static_cast<uint32_t>(a.r)} * static_cast<uint32_t>(b.r)};
}
inline WideIVec high_as_low(WideIVec a) { return {a.r >> 32}; }

inline IVec block_order() { return {0}; }
inline void interleave(IVec (&)[4]) {}

inline uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

inline float widen(float x) { return x; }
inline float widen(BF16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
inline float widen(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000u | (rest & 0x3ff) << 13);  // infinity, NaN
  // The exponent is 15 - 127 off, which one exact product sets right for subnormal numbers too.
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
}

inline float widen(int8_t x) { return static_cast<float>(x); }

inline void narrow(float x, float& out) { out = x; }
inline void narrow(float x, BF16& out) {
  const uint32_t bits = bits_of(x), top = bits >> 16;
  out.bits = static_cast<uint16_t>(x != x ? top | 0x40 : (bits + 0x7fff + (top & 1)) >> 16);
}
inline void narrow(float x, F16& out) {
  const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  uint32_t half;
  if (rest > 0x7f800000u) {  // NaN
    half = 0x7e00 | (rest >> 13 & 0x3ff);
  } else if (rest >= 0x477ff000u) {  // 65520 and above round to infinity
    half = 0x7c00;
  } else if (rest < 0x38800000u) {  // below 2^-14: in 0.5f the last place is 2^-24, as in a
                                    // subnormal fp16 number
    half = bits_of(float_of(rest) + 0.5f) - bits_of(0.5f);
  } else {
    half = (rest - 0x38000000u + 0xfff + (rest >> 13 & 1)) >> 13;
  }
  out.bits = static_cast<uint16_t>(sign | half);
}

struct Vec {
  static constexpr int kLanes = 1;
  float r;

  static Vec zero() { return {0}; }
  static Vec all(float x) { return {x}; }
  template <class T>
  static Vec load(const T* p) {
    return {widen(*p)};
  }
  template <class T>
  static Vec load(const T* p, int64_t left) {
    return left > 0 ? load(p) : zero();
  }
  template <class T>
  void store(T* p) const {
    narrow(r, *p);
  }
  template <class T>
  void stream(T* p) const {
    store(p);
  }
  template <class T>
  void store(T* p, int64_t left) const {
    if (left > 0) store(p);
  }
  float sum() const { return r; }
  float largest() const { return r; }
};

inline Vec operator+(Vec a, Vec b) { return {a.r + b.r}; }
inline Vec operator-(Vec a, Vec b) { return {a.r - b.r}; }
inline Vec operator*(Vec a, Vec b) { return {a.r * b.r}; }
inline Vec operator/(Vec a, Vec b) { return {a.r / b.r}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {a.r * b.r + c.r}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {c.r - a.r * b.r}; }
inline Vec max(Vec a, Vec b) { return {a.r > b.r ? a.r : b.r}; }
inline Vec min(Vec a, Vec b) { return {a.r < b.r ? a.r : b.r}; }
inline Vec sqrt(Vec a) { return {__builtin_sqrtf(a.r)}; }
inline Vec abs(Vec a) { return {__builtin_fabsf(a.r)}; }
inline Vec round(Vec a) { return {(a.r + 0x1.8p23f) - 0x1.8p23f}; }  // for |a| < 2^22
inline Mask less(Vec a, Vec b) { return {a.r < b.r}; }
inline Mask equal(Vec a, Vec b) { return {a.r == b.r}; }
inline Vec select(Mask m, Vec a, Vec b) { return m.m ? a : b; }
// In two steps, so that each factor is a normal number.
inline Vec times_power_of_2(Vec a, Vec n) {
  if (n.r != n.r) return n;
  const int32_t whole = static_cast<int32_t>(n.r * 16) >> 4, half = whole >> 1;
  return {a.r * float_of(static_cast<uint32_t>(half + 127) << 23) *
          float_of(static_cast<uint32_t>(whole - half + 127) << 23)};
}
inline Vec lookup(const float* table, Vec t) { return {table[bits_of(t.r) & 15]}; }
inline Vec load_four_bit(const uint8_t* p) { return {float_of(*p >> 4)}; }
struct FourBitNumbers {
  static constexpr int64_t kCodes = 2;
  const float* numbers;
  explicit FourBitNumbers(const float* table) : numbers(table) {}
  void look_up(const uint8_t* p, Vec (&out)[kCodes]) const {
    out[0] = {numbers[*p >> 4]};
    out[1] = {numbers[*p & 15]};
  }
};
template <int kBits>
Vec round_off(Vec a, IVec w) {
  return a.r == a.r ? Vec{float_of((bits_of(a.r) + (w.r >> (32 - kBits))) >> kBits << kBits)} : a;
}
inline Vec leading_bits(Vec a) { return {float_of(bits_of(a.r) >> 21)}; }
inline Vec leading_part(Vec a) { return {float_of(bits_of(a.r) & 0xffe00000u)}; }
inline Vec add_to_exponent(Vec a, Vec t) { return {float_of(bits_of(a.r) + (bits_of(t.r) << 19))}; }

struct VecPair {
  Vec first, second;
  template <class T>
  static VecPair load(const T* p) {
    return {Vec::load(p), Vec::load(p + 1)};
  }
  template <class T>
  void store(T* p) const {
    first.store(p);
    second.store(p + 1);
  }
  template <class T>
  void stream(T* p) const {
    store(p);
  }
};

inline void finish_streams() {}

}  // namespace tenon::cpu::TENON_ISA
