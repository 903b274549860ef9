// SPDX-License-Identifier: Apache-2.0
// Pairs of bf16 for AVX512-BF16 and quads of int8 for AVX512-VNNI.
//
// vdpbf16ps adds the exact product of the odd elements and then that of the even ones, each rounded
// once to fp32, and takes subnormal numbers for 0; vpdpbusd adds the exact products of four unsigned
// and four signed bytes to a 32-bit sum (Intel's manual, volume 2).
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

constexpr bool kHasBf16Dots = true, kHasByteDots = true;

// Two steps of K: the earlier one in the lower half. fp32 is rounded to bf16.
struct Bf16Unit {
  static constexpr int64_t kSteps = 2;
  static constexpr bool kBytes = false, kWholeNumbers = false;
  using Rows = Bf16Unit;
  using Columns = Bf16Unit;

  static Vec along(const BF16* x, int64_t steps, float) {
    const auto mask = static_cast<__mmask32>(steps >= 32 ? ~0u : (1u << steps) - 1);
    return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, x))};
  }
  static Vec along(const float* x, int64_t steps, float) {
    const Vec low = load_some(x, steps);
    const Vec high = steps > kLanes ? load_some(x + kLanes, steps - kLanes) : Vec::zero();
    return {_mm512_castsi512_ps(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high.r, low.r)))};
  }

  static Vec across(const BF16* x, int64_t stride, int64_t steps, int64_t left, const float*) {
    return pair(halves(x, left), steps > 1 ? halves(x + stride, left) : _mm256_setzero_si256());
  }
  static Vec across(const float* x, int64_t stride, int64_t steps, int64_t left, const float*) {
    return pair(halves(x, left), steps > 1 ? halves(x + stride, left) : _mm256_setzero_si256());
  }

  static Vec dot(Vec x, Vec y, Vec sum) {
    return {
        _mm512_dpbf16_ps(sum.r, reinterpret_cast<__m512bh>(x.r), reinterpret_cast<__m512bh>(y.r))};
  }
  static Vec result(Vec sum) { return sum; }

 private:
  static __m256i halves(const BF16* x, int64_t left) {
    return left >= kLanes ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x))
                          : _mm256_maskz_loadu_epi16(Mask::first(left).m, x);
  }
  static __m256i halves(const float* x, int64_t left) {
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(load_some(x, left).r));
  }
  static Vec pair(__m256i first, __m256i second) {
    const __m512i low = _mm512_cvtepu16_epi32(first), high = _mm512_cvtepu16_epi32(second);
    return {_mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32(high, 16)))};
  }
};

// Four steps of K as int8, the earliest in the lowest byte; both operands run along K. Rows hold x +
// 128, which is unsigned as vpdpbusd wants it; 128 times the sum of a column is taken off by where
// its sums begin. Sums of up to 2^16 products are exact.
struct ByteUnit {
  static constexpr int64_t kSteps = 4;
  static constexpr bool kBytes = true, kWholeNumbers = true;

  struct Columns {
    static constexpr int64_t kSteps = 4;
    static constexpr bool kBytes = true;
    static Vec along(const int8_t* x, int64_t steps, float) {
      const __mmask64 mask = steps >= 64 ? ~__mmask64{0} : (__mmask64{1} << steps) - 1;
      return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi8(mask, x))};
    }
  };
  struct Rows {
    static constexpr int64_t kSteps = 4;
    static constexpr bool kBytes = true;
    static Vec along(const int8_t* x, int64_t steps, float) {
      const __m512i bytes = _mm512_castps_si512(Columns::along(x, steps, 1).r);
      return {_mm512_castsi512_ps(_mm512_xor_si512(bytes, _mm512_set1_epi8(-128)))};
    }
  };

  static Vec dot(Vec x, Vec y, Vec sum) {
    return {_mm512_castsi512_ps(_mm512_dpbusd_epi32(
        _mm512_castps_si512(sum.r), _mm512_castps_si512(x.r), _mm512_castps_si512(y.r)))};
  }
  // Writes where the sums of a panel of `units` units and `width` columns begin in front of it.
  static void correct(float* panel, int64_t units, int64_t width) {
    const Vec ones = {_mm512_castsi512_ps(_mm512_set1_epi8(1))};
    for (int64_t i = 0; i < width; i += kLanes) {
      Vec sum = Vec::zero();
      for (int64_t u = 0; u < units; ++u) sum = dot(ones, Vec::load(panel + u * width + i), sum);
      const __m512i begin = _mm512_sub_epi32(_mm512_setzero_si512(),
                                             _mm512_slli_epi32(_mm512_castps_si512(sum.r), 7));
      Vec{_mm512_castsi512_ps(begin)}.store(panel - width + i);
    }
  }
  static Vec result(Vec sum) { return {_mm512_cvtepi32_ps(_mm512_castps_si512(sum.r))}; }
};

}  // namespace tenon::cpu::TENON_ISA
