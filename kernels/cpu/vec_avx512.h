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

struct WideIVec {
  __m512i even, odd;
  static WideIVec all(uint32_t x) { return {IVec::all(x).r, IVec::all(x).r}; }
  static WideIVec from(IVec x) { return {x.r, _mm512_shuffle_epi32(x.r, _MM_PERM_DDBB)}; }
  IVec low() const { return {_mm512_mask_shuffle_epi32(even, 0xaaaa, odd, _MM_PERM_CCAA)}; }
};
inline WideIVec operator^(WideIVec a, WideIVec b) {
  return {_mm512_xor_si512(a.even, b.even), _mm512_xor_si512(a.odd, b.odd)};
}
inline WideIVec multiply_low(WideIVec a, WideIVec b) {
  return {_mm512_mul_epu32(a.even, b.even), _mm512_mul_epu32(a.odd, b.odd)};
}
inline WideIVec high_as_low(WideIVec a) {
  return {_mm512_shuffle_epi32(a.even, _MM_PERM_DDBB), _mm512_shuffle_epi32(a.odd, _MM_PERM_DDBB)};
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
  static Vec load(const int8_t* p) {
    return widen_i8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load(const float* p, int64_t left) {
    return left >= kLanes ? load(p) : Vec{_mm512_maskz_loadu_ps(Mask::first(left).m, p)};
  }
  static Vec load(const BF16* p, int64_t left) {
    if (left >= kLanes) return load(p);
    return widen_bf16(_mm256_maskz_loadu_epi16(Mask::first(left).m, p));
  }
  static Vec load(const F16* p, int64_t left) {
    if (left >= kLanes) return load(p);
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Mask::first(left).m, p))};
  }

  static Vec load(const int8_t* p, int64_t left) {
    return widen_i8(_mm_maskz_loadu_epi8(Mask::first(left).m, p));
  }

  void store(float* p) const { _mm512_storeu_ps(p, r); }
  void store(BF16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16()); }
  void store(F16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_f16()); }
  void stream(float* p) const { _mm512_stream_ps(p, r); }
  void stream(BF16* p) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_bf16()); }
  void stream(F16* p) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_f16()); }

  void store(float* p, int64_t left) const {
    if (left >= kLanes) return store(p);
    _mm512_mask_storeu_ps(p, Mask::first(left).m, r);
  }
  void store(BF16* p, int64_t left) const {
    if (left >= kLanes) return store(p);
    _mm256_mask_storeu_epi16(p, Mask::first(left).m, narrow_bf16());
  }
  void store(F16* p, int64_t left) const {
    if (left >= kLanes) return store(p);
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
  static Vec widen_i8(__m128i x) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x))}; }
  static Vec widen_bf16(__m256i x) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16))};
  }
  __m256i narrow_f16() const {
    return _mm512_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // The rounded number is in the upper half of each lane: half of the last kept place is added,
  // less one where that place is even; a NaN keeps its top bits and becomes quiet.
  __m512i round_to_bf16() const {
    const __m512i bits = _mm512_castps_si512(r);
    const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __m512i near = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    const __m512i out = _mm512_mask_add_epi32(near, odd, near, _mm512_set1_epi32(1));
    const __mmask16 nan = _mm512_cmp_ps_mask(r, r, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(out, nan, bits, _mm512_set1_epi32(0x400000));
  }
  __m256i narrow_bf16() const {
#ifdef __AVX512BF16__
    // The instruction takes subnormal numbers for 0.
    if (__builtin_expect(_mm512_fpclass_ps_mask(r, 0x20) == 0, true))
      return (__m256i)_mm512_cvtneps_pbh(r);
#endif
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_to_bf16(), 16));
  }
  friend struct VecPair;
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
inline Vec lookup(const float* table, Vec t) {
  return {_mm512_permutexvar_ps(_mm512_castps_si512(t.r), _mm512_loadu_ps(table))};
}
inline Vec load_four_bit(const uint8_t* p) {
  const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  const __m128i codes = _mm_unpacklo_epi8(_mm_srli_epi16(low, 4), low);
  return {_mm512_castsi512_ps(_mm512_cvtepu8_epi32(codes))};
}
struct FourBitNumbers {
  static constexpr int64_t kCodes = 16;
  __m512 numbers;
  explicit FourBitNumbers(const float* table) : numbers(_mm512_loadu_ps(table)) {}
  void look_up(const uint8_t* p, Vec (&out)[1]) const {
    const __m512i codes = _mm512_castps_si512(load_four_bit(p).r);
    out[0] = {_mm512_permutexvar_ps(codes, numbers)};
  }
};
inline Vec load_words(const int8_t* x, int64_t left) {
  const __mmask32 mask = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
  return {_mm512_castsi512_ps(_mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(mask, x)))};
}
inline Vec add_word_products(Vec sum, Vec x, Vec y) {
  const __m512i products = _mm512_madd_epi16(_mm512_castps_si512(x.r), _mm512_castps_si512(y.r));
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(sum.r), products))};
}
inline Vec from_whole(Vec a) { return {_mm512_cvtepi32_ps(_mm512_castps_si512(a.r))}; }
template <int kBits>
Vec round_off(Vec a, IVec w) {
  const __m512i part = _mm512_srli_epi32(w.r, 32 - kBits);
  const __m512i sum = _mm512_add_epi32(_mm512_castps_si512(a.r), part);
  const __m512i cut = _mm512_slli_epi32(_mm512_srli_epi32(sum, kBits), kBits);
  return select(equal(a, a), {_mm512_castsi512_ps(cut)}, a);
}
inline Vec leading_bits(Vec a) {
  return {_mm512_castsi512_ps(_mm512_srli_epi32(_mm512_castps_si512(a.r), 21))};
}
inline Vec leading_part(Vec a) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(a.r), _mm512_set1_epi32(-0x200000)))};
}
inline Vec add_to_exponent(Vec a, Vec t) {
  const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(t.r), 19);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.r), shifted))};
}

// BF16: `first` are the elements at even places, the lower halves of 32-bit lanes.
struct VecPair {
  Vec first, second;
  template <class T>
  static VecPair load(const T* p) {
    return {Vec::load(p), Vec::load(p + Vec::kLanes)};
  }
  static VecPair load(const BF16* p) {
    const __m512i both = _mm512_loadu_si512(p);
    const __m512i odd = _mm512_and_si512(both, _mm512_set1_epi32(-0x10000));
    return {{_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))}, {_mm512_castsi512_ps(odd)}};
  }
  template <class T>
  void store(T* p) const {
    first.store(p);
    second.store(p + Vec::kLanes);
  }
  void store(BF16* p) const { _mm512_storeu_si512(p, narrow_bf16()); }
  template <class T>
  void stream(T* p) const {
    first.stream(p);
    second.stream(p + Vec::kLanes);
  }
  void stream(BF16* p) const { _mm512_stream_si512(reinterpret_cast<__m512i*>(p), narrow_bf16()); }

 private:
  __m512i narrow_bf16() const {
#ifdef __AVX512BF16__
    // The instruction takes subnormal numbers for 0.
    const __mmask16 subnormal =
        _mm512_fpclass_ps_mask(first.r, 0x20) | _mm512_fpclass_ps_mask(second.r, 0x20);
    if (__builtin_expect(subnormal == 0, true)) {
      const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(second.r, first.r);
      const __m512i order =
          _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                           6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
      return _mm512_permutexvar_epi16(order, halves);
    }
#endif
    const __m512i even = _mm512_srli_epi32(first.round_to_bf16(), 16);
    return _mm512_mask_blend_epi16(0xaaaaaaaau, even, second.round_to_bf16());
  }
};

inline void finish_streams() { _mm_sfence(); }

}  // namespace tenon::cpu::TENON_ISA
