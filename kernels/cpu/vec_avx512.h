// SPDX-License-Identifier: Apache-2.0
// The vectors of AVX-512 (F, BW, DQ, VL): 16 lanes, tails by mask registers. vec.h says what each
// function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"

namespace tenon::cpu::TENON_ISA {

struct Mask {
  __mmask16 m;
  static Mask first(int64_t n) {
    return {n >= 16 ? static_cast<__mmask16>(0xffff)
                    : static_cast<__mmask16>(n <= 0 ? 0 : (1u << n) - 1)};
  }
};
inline Mask operator&(Mask a, Mask b) { return {static_cast<__mmask16>(a.m & b.m)}; }

struct IVec {
  static constexpr int kLanes = 16;
  __m512i r;
  static IVec all(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
  static IVec lane_index() {
    return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)};
  }
  static IVec load(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
  void store(uint32_t* p) const { _mm512_storeu_si512(p, r); }
};
inline IVec operator+(IVec a, IVec b) { return {_mm512_add_epi32(a.r, b.r)}; }
inline IVec operator^(IVec a, IVec b) { return {_mm512_xor_si512(a.r, b.r)}; }
inline Mask less_signed(IVec a, IVec b) { return {_mm512_cmplt_epi32_mask(a.r, b.r)}; }
inline Mask less_unsigned(IVec a, IVec b) { return {_mm512_cmplt_epu32_mask(a.r, b.r)}; }
inline IVec select(Mask m, IVec a, IVec b) { return {_mm512_mask_blend_epi32(m.m, b.r, a.r)}; }

struct WideProduct {
  IVec high, low;
};
inline WideProduct multiply_wide(IVec a, IVec b) {
  const __m512i even = _mm512_mul_epu32(a.r, b.r);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a.r, 32), _mm512_srli_epi64(b.r, 32));
  const __mmask16 odd_lanes = 0xaaaa;
  return {{_mm512_mask_blend_epi32(odd_lanes, _mm512_srli_epi64(even, 32), odd)},
          {_mm512_mask_blend_epi32(odd_lanes, even, _mm512_slli_epi64(odd, 32))}};
}

// Block numbers chosen so that interleave() works within 128-bit parts.
inline IVec block_order() {
  return {_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)};
}
inline void interleave(IVec (&w)[4]) {
  const __m512i t0 = _mm512_unpacklo_epi32(w[0].r, w[1].r),
                t1 = _mm512_unpackhi_epi32(w[0].r, w[1].r);
  const __m512i t2 = _mm512_unpacklo_epi32(w[2].r, w[3].r),
                t3 = _mm512_unpackhi_epi32(w[2].r, w[3].r);
  w[0].r = _mm512_unpacklo_epi64(t0, t2);
  w[1].r = _mm512_unpackhi_epi64(t0, t2);
  w[2].r = _mm512_unpacklo_epi64(t1, t3);
  w[3].r = _mm512_unpackhi_epi64(t1, t3);
}

struct Vec {
  static constexpr int kLanes = 16;
  __m512 r;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec all(float x) { return {_mm512_set1_ps(x)}; }

  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const BF16* p) {
    return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const F16* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vec load(const float* p, int64_t left) {
    return {_mm512_maskz_loadu_ps(Mask::first(left).m, p)};
  }
  static Vec load(const BF16* p, int64_t left) {
    return widen_bf16(_mm256_maskz_loadu_epi16(Mask::first(left).m, p));
  }
  static Vec load(const F16* p, int64_t left) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Mask::first(left).m, p))};
  }

  void store(float* p) const { _mm512_storeu_ps(p, r); }
  void store(BF16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16()); }
  void store(F16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_f16()); }
  void store(float* p, int64_t left) const { _mm512_mask_storeu_ps(p, Mask::first(left).m, r); }
  void store(BF16* p, int64_t left) const {
    _mm256_mask_storeu_epi16(p, Mask::first(left).m, narrow_bf16());
  }
  void store(F16* p, int64_t left) const {
    _mm256_mask_storeu_epi16(p, Mask::first(left).m, narrow_f16());
  }

  float sum() const {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  float largest() const {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(r), _mm512_extractf32x8_ps(r, 1));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }

 private:
  static Vec widen_bf16(__m256i x) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))};
  }
  __m256i narrow_f16() const {
    return _mm512_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // Adds half of the last kept place, less one where that place is even; a NaN keeps its top bits
  // and becomes quiet.
  __m256i narrow_bf16() const {
    const __m512i bits = _mm512_castps_si512(r);
    const __m512i top = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    __m512i out = _mm512_srli_epi32(
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(r, r, _CMP_UNORD_Q);
    out = _mm512_mask_or_epi32(out, nan, top, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(out);
  }
};

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.r, b.r)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.r, b.r)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.r, b.r)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.r, b.r)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.r, b.r, c.r)}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.r, b.r, c.r)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.r, b.r)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.r, b.r)}; }
inline Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.r)}; }
inline Vec abs(Vec a) { return {_mm512_abs_ps(a.r)}; }
inline Vec round(Vec a) {
  return {_mm512_roundscale_ps(a.r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Mask less(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.r, b.r, _CMP_LT_OQ)}; }
inline Mask equal(Vec a, Vec b) { return {_mm512_cmp_ps_mask(a.r, b.r, _CMP_EQ_OQ)}; }
inline Vec select(Mask m, Vec a, Vec b) { return {_mm512_mask_blend_ps(m.m, b.r, a.r)}; }
inline Vec times_power_of_2(Vec a, Vec n) { return {_mm512_scalef_ps(a.r, n.r)}; }

}  // namespace tenon::cpu::TENON_ISA
