// SPDX-License-Identifier: Apache-2.0
// The vectors of AVX2 with FMA and F16C: 8 lanes; tails by masked moves, or through a small buffer
// for 16-bit elements. vec.h says what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"

namespace tenon::cpu::TENON_ISA {

struct Mask {
  __m256i m;  // all bits of a lane, or none
  static Mask first(int64_t n) {
    const int count = n >= 8 ? 8 : n <= 0 ? 0 : static_cast<int>(n);
    return {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))};
  }
};
inline Mask operator&(Mask a, Mask b) { return {_mm256_and_si256(a.m, b.m)}; }

struct IVec {
  static constexpr int kLanes = 8;
  __m256i r;
  static IVec all(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
  static IVec lane_index() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)}; }
  static IVec load(const uint32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
  }
  void store(uint32_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), r); }
};
inline IVec operator+(IVec a, IVec b) { return {_mm256_add_epi32(a.r, b.r)}; }
inline IVec operator^(IVec a, IVec b) { return {_mm256_xor_si256(a.r, b.r)}; }
inline Mask less_signed(IVec a, IVec b) { return {_mm256_cmpgt_epi32(b.r, a.r)}; }
inline Mask less_unsigned(IVec a, IVec b) {
  const IVec sign = IVec::all(0x80000000u);
  return less_signed(a ^ sign, b ^ sign);
}
inline IVec select(Mask m, IVec a, IVec b) { return {_mm256_blendv_epi8(b.r, a.r, m.m)}; }

struct WideIVec {
  __m256i even, odd;
  static WideIVec all(uint32_t x) { return {IVec::all(x).r, IVec::all(x).r}; }
  static WideIVec from(IVec x) { return {x.r, _mm256_shuffle_epi32(x.r, 0xf5)}; }
  IVec low() const { return {_mm256_blend_epi32(even, _mm256_shuffle_epi32(odd, 0xa0), 0xaa)}; }
};
inline WideIVec operator^(WideIVec a, WideIVec b) {
  return {_mm256_xor_si256(a.even, b.even), _mm256_xor_si256(a.odd, b.odd)};
}
inline WideIVec multiply_low(WideIVec a, WideIVec b) {
  return {_mm256_mul_epu32(a.even, b.even), _mm256_mul_epu32(a.odd, b.odd)};
}
inline WideIVec high_as_low(WideIVec a) {
  return {_mm256_shuffle_epi32(a.even, 0xf5), _mm256_shuffle_epi32(a.odd, 0xf5)};
}

// Block numbers chosen so that interleave() works within 128-bit parts.
inline IVec block_order() { return {_mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)}; }
inline void interleave(IVec (&w)[4]) {
  const __m256i t0 = _mm256_unpacklo_epi32(w[0].r, w[1].r),
                t1 = _mm256_unpackhi_epi32(w[0].r, w[1].r);
  const __m256i t2 = _mm256_unpacklo_epi32(w[2].r, w[3].r),
                t3 = _mm256_unpackhi_epi32(w[2].r, w[3].r);
  w[0].r = _mm256_unpacklo_epi64(t0, t2);
  w[1].r = _mm256_unpackhi_epi64(t0, t2);
  w[2].r = _mm256_unpacklo_epi64(t1, t3);
  w[3].r = _mm256_unpackhi_epi64(t1, t3);
}

struct Vec {
  static constexpr int kLanes = 8;
  __m256 r;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec all(float x) { return {_mm256_set1_ps(x)}; }

  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load(const BF16* p) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16))};
  }
  static Vec load(const F16* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Vec load(const int8_t* p) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x))};
  }
  static Vec load(const float* p, int64_t left) {
    return left >= kLanes ? load(p) : Vec{_mm256_maskload_ps(p, Mask::first(left).m)};
  }
  static Vec load(const BF16* p, int64_t left) { return load_part(p, left); }
  static Vec load(const F16* p, int64_t left) { return load_part(p, left); }
  static Vec load(const int8_t* p, int64_t left) { return load_part(p, left); }

  void store(float* p) const { _mm256_storeu_ps(p, r); }
  void store(BF16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16()); }
  void store(F16* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_f16()); }
  void stream(float* p) const { _mm256_stream_ps(p, r); }
  void stream(BF16* p) const { _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow_bf16()); }
  void stream(F16* p) const { _mm_stream_si128(reinterpret_cast<__m128i*>(p), narrow_f16()); }

  void store(float* p, int64_t left) const {
    if (left >= kLanes) return store(p);
    _mm256_maskstore_ps(p, Mask::first(left).m, r);
  }
  void store(BF16* p, int64_t left) const { store_half(p, left); }
  void store(F16* p, int64_t left) const { store_half(p, left); }

  float sum() const {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(r), _mm256_extractf128_ps(r, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  float largest() const {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(r), _mm256_extractf128_ps(r, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }

 private:
  template <class T>
  static Vec load_part(const T* p, int64_t left) {
    if (left >= kLanes) return load(p);
    T buffer[kLanes] = {};
    for (int64_t i = 0; i < left; ++i) buffer[i] = p[i];
    return load(buffer);
  }
  template <class Half>
  void store_half(Half* p, int64_t left) const {
    if (left >= kLanes) return store(p);
    Half buffer[kLanes];
    store(buffer);
    for (int64_t i = 0; i < left; ++i) p[i] = buffer[i];
  }
  __m128i narrow_f16() const {
    return _mm256_cvtps_ph(r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // The rounded number is in the upper half of each lane: half of the last kept place is added,
  // less one where that place is even; a NaN keeps its top bits and becomes quiet.
  __m256i round_to_bf16() const {
    const __m256i bits = _mm256_castps_si256(r);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i near = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(r, r, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(near, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
  }
  __m128i narrow_bf16() const {
    const __m256i out = _mm256_srli_epi32(round_to_bf16(), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(out), _mm256_extracti128_si256(out, 1));
  }
  friend struct VecPair;
};

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.r, b.r)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.r, b.r)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.r, b.r)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.r, b.r)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.r, b.r, c.r)}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.r, b.r, c.r)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.r, b.r)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.r, b.r)}; }
inline Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.r)}; }
inline Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.r)}; }
inline Vec round(Vec a) {
  return {_mm256_round_ps(a.r, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Mask less(Vec a, Vec b) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a.r, b.r, _CMP_LT_OQ))};
}
inline Mask equal(Vec a, Vec b) {
  return {_mm256_castps_si256(_mm256_cmp_ps(a.r, b.r, _CMP_EQ_OQ))};
}
inline Vec select(Mask m, Vec a, Vec b) {
  return {_mm256_blendv_ps(b.r, a.r, _mm256_castsi256_ps(m.m))};
}
// In two steps, so that each factor is a normal number.
inline Vec times_power_of_2(Vec a, Vec n) {
  const __m256i whole =
      _mm256_srai_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(n.r, _mm256_set1_ps(16))), 4);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i one = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i other =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
  return {_mm256_mul_ps(_mm256_mul_ps(a.r, _mm256_castsi256_ps(one)), _mm256_castsi256_ps(other))};
}
inline Vec lookup(const float* table, Vec t) {
  const __m256i place = _mm256_castps_si256(t.r);
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), place);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), place);
  return {_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(place, 28)))};
}
inline Vec load_four_bit(const uint8_t* p) {
  int32_t bytes;
  __builtin_memcpy(&bytes, p, sizeof(bytes));
  const __m256i places = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
  return {_mm256_castsi256_ps(_mm256_srlv_epi32(_mm256_set1_epi32(bytes), places))};
}
// The numbers' first bytes, their second ones and so on are looked up by vpshufb, 32 codes at a time,
// and put together again: on an EPYC (Zen 3), 9.2 instead of 6.5 10^9 numbers a second with two
// vpermps and a blend.
struct FourBitNumbers {
  static constexpr int64_t kCodes = 32;
  __m256i bytes[4];
  explicit FourBitNumbers(const float* table) {
    const __m128i by_place = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128 four[4];
    for (int i = 0; i < 4; ++i) {
      const __m128i x = _mm_castps_si128(_mm_loadu_ps(table + 4 * i));
      four[i] = _mm_castsi128_ps(_mm_shuffle_epi8(x, by_place));
    }
    _MM_TRANSPOSE4_PS(four[0], four[1], four[2], four[3]);
    for (int i = 0; i < 4; ++i) bytes[i] = _mm256_broadcastsi128_si256(_mm_castps_si128(four[i]));
  }
  void look_up(const uint8_t* p, Vec (&out)[4]) const {
    // Each byte twice, so that unpacking within the halves leaves the numbers in order.
    const __m256i twice = _mm256_setr_epi8(0, 0, 1, 1, 4, 4, 5, 5, 8, 8, 9, 9, 12, 12, 13, 13,  //
                                           2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15);
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m256i x = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(packed), twice);
    const __m256i halves =
        _mm256_blendv_epi8(x, _mm256_srli_epi16(x, 4), _mm256_set1_epi16(0x00ff));
    const __m256i codes = _mm256_and_si256(halves, _mm256_set1_epi8(15));
    __m256i b[4];
    for (int i = 0; i < 4; ++i) b[i] = _mm256_shuffle_epi8(bytes[i], codes);
    const __m256i low[2] = {_mm256_unpacklo_epi8(b[0], b[1]), _mm256_unpackhi_epi8(b[0], b[1])},
                  high[2] = {_mm256_unpacklo_epi8(b[2], b[3]), _mm256_unpackhi_epi8(b[2], b[3])};
    for (int i = 0; i < 2; ++i) {
      out[2 * i] = {_mm256_castsi256_ps(_mm256_unpacklo_epi16(low[i], high[i]))};
      out[2 * i + 1] = {_mm256_castsi256_ps(_mm256_unpackhi_epi16(low[i], high[i]))};
    }
  }
};
inline Vec load_words(const int8_t* x, int64_t left) {
  __m128i bytes;
  if (left >= 16) {
    bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  } else {
    int8_t some[16] = {};
    __builtin_memcpy(some, x, static_cast<size_t>(left));
    bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(some));
  }
  return {_mm256_castsi256_ps(_mm256_cvtepi8_epi16(bytes))};
}
inline Vec add_word_products(Vec sum, Vec x, Vec y) {
  const __m256i products = _mm256_madd_epi16(_mm256_castps_si256(x.r), _mm256_castps_si256(y.r));
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(sum.r), products))};
}
inline Vec from_whole(Vec a) { return {_mm256_cvtepi32_ps(_mm256_castps_si256(a.r))}; }
template <int kBits>
Vec round_off(Vec a, IVec w) {
  const __m256i part = _mm256_srli_epi32(w.r, 32 - kBits);
  const __m256i sum = _mm256_add_epi32(_mm256_castps_si256(a.r), part);
  const __m256i cut = _mm256_slli_epi32(_mm256_srli_epi32(sum, kBits), kBits);
  return select(equal(a, a), {_mm256_castsi256_ps(cut)}, a);
}
inline Vec leading_bits(Vec a) {
  return {_mm256_castsi256_ps(_mm256_srli_epi32(_mm256_castps_si256(a.r), 21))};
}
inline Vec leading_part(Vec a) {
  return {_mm256_and_ps(a.r, _mm256_castsi256_ps(_mm256_set1_epi32(-0x200000)))};
}
inline Vec add_to_exponent(Vec a, Vec t) {
  const __m256i shifted = _mm256_slli_epi32(_mm256_castps_si256(t.r), 19);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.r), shifted))};
}

// BF16: `first` are the elements at even places, the lower halves of 32-bit lanes.
struct VecPair {
  Vec first, second;
  template <class T>
  static VecPair load(const T* p) {
    return {Vec::load(p), Vec::load(p + Vec::kLanes)};
  }
  static VecPair load(const BF16* p) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i odd = _mm256_and_si256(both, _mm256_set1_epi32(-0x10000));
    return {{_mm256_castsi256_ps(_mm256_slli_epi32(both, 16))}, {_mm256_castsi256_ps(odd)}};
  }
  template <class T>
  void store(T* p) const {
    first.store(p);
    second.store(p + Vec::kLanes);
  }
  void store(BF16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16()); }
  template <class T>
  void stream(T* p) const {
    first.stream(p);
    second.stream(p + Vec::kLanes);
  }
  void stream(BF16* p) const { _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow_bf16()); }

 private:
  __m256i narrow_bf16() const {
    const __m256i even = _mm256_srli_epi32(first.round_to_bf16(), 16);
    return _mm256_blend_epi16(even, second.round_to_bf16(), 0xaa);
  }
};

inline void finish_streams() { _mm_sfence(); }

}  // namespace tenon::cpu::TENON_ISA
