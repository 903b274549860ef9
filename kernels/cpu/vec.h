// SPDX-License-Identifier: Apache-2.0
// What kernels are written with: Vec (kLanes floats), IVec (as many 32-bit integers) and Mask (as
// many bits) of the instruction set that is being compiled, functions of them, and calls into core.
//
//   Vec::load(p), .store(p)   kLanes elements of float, BF16 or F16: widened, or rounded to nearest
//                             even (NaN stays NaN); int8_t can be loaded
//   Vec::load(p, left),       the first `left` of them: further lanes are 0, further memory is not
//     .store(p, left)         touched
//   .stream(p)                stores past the caches; p is aligned to what is written. The thread
//   finish_streams()          then calls this before others may read
//   .sum(), .largest()        over the lanes, in a fixed tree
//   fma(a, b, c)              a b + c, rounded once (in the scalar table: twice)
//   fnma(a, b, c)             c - a b, likewise
//   max(a, b), min(a, b)      b where either is NaN
//   less(a, b), equal(a, b)   false where either is NaN
//   select(mask, a, b)        a where the mask is set, else b
//   times_power_of_2(a, n)    a 2^floor(n) for n in [-152, 129], a multiple of 1/16; over- and
//                             underflows as floats do
//   lookup(table, t)          the element of table[16] that the lowest 4 bits of t's bits name
//   load_four_bit(p)          the 4-bit codes of kLanes / 2 bytes, the first of a byte in its high
//                             half, as the lowest bits of the lanes; what lies above them is any
//   FourBitNumbers            sixteen numbers; look_up(p, out) gives those that the next kCodes
//                             4-bit codes at p name, the first of a byte in its high half
//   leading_bits(a)           a's bits down to the second of the mantissa, as the lowest bits
//   leading_part(a)           a with the other bits 0
//   add_to_exponent(a, t)     a's bits plus t's bits times 2^19
//   load_words(p, left)       2 kLanes 16-bit numbers from as many int8, the first `left` of them;
//   add_word_products(s,a,b)  the 32-bit numbers s plus the products of a's and b's 16-bit ones, two
//   from_whole(s)             of them each; and those as floats (where dot_words.h is used)
//   round_off<n>(a, w)        a with the lower n of its bits 0, after the upper n of w were added
//                             to them: NaN stays NaN
//   VecPair                   two Vecs that VecPair::load(p) fills from 2 kLanes elements, in
//                             order, or, where BF16, those at even places and those at odd ones;
//                             .store(p) and .stream(p) undo it for arrays of the same type
//   WideIVec                  kLanes 64-bit integers; ::from(IVec) makes their lower halves (what
//                             is above is undefined), .low() takes them
//   multiply_low(a, b)        the 64-bit products of the lower halves
//   high_as_low(a)            the upper halves in the place of the lower ones
//   block_order(), interleave(w)   see philox_words
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/parallel_for.h"
#include "core/philox.h"
#include TENON_ISA_VEC

namespace tenon::cpu::TENON_ISA {

constexpr int64_t kLanes = Vec::kLanes;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Runs body(chunk) for every chunk in [0, chunks) on the threads of the caller.
template <class Body>
void for_chunks(int64_t chunks, const Body& body) {
  parallel_for(
      chunks, [](void* context, int64_t chunk) { (*static_cast<const Body*>(context))(chunk); },
      const_cast<Body*>(&body));
}

// Runs body(begin, end) over [0, count) in pieces of `size`.
template <class Body>
void for_ranges(int64_t count, int64_t size, const Body& body) {
  for_chunks(divide_up(count, size),
             [&](int64_t chunk) { body(chunk * size, smaller(count, (chunk + 1) * size)); });
}

// Runs body(i, left, part) for each vector of [0, count), `left` elements being left at i. `part`
// cycles through 0..3, for four independent sums: one alone would wait for its previous addition.
template <class Body>
inline void for_vectors(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) body(i + part * kLanes, kLanes, part);
  }
  for (int part = 0; i < count; i += kLanes, ++part) body(i, count - i, part);
}

// Asks for the cache line at p, which is read soon.
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// Whether an array that is written as a whole is better stored past the caches. It is where nothing
// of it would be left in them for whoever reads it next: a store past the caches does not read the
// line first.
inline bool past_caches(const void* data, int64_t bytes) {
  return bytes >= (int64_t{16} << 20) && reinterpret_cast<uintptr_t>(data) % 64 == 0;
}

// The same of an array whose rows are written vector by vector.
inline bool rows_past_caches(const void* data, int64_t rows, int64_t row_bytes) {
  return row_bytes % 64 == 0 && past_caches(data, rows * row_bytes);
}

// Stores the first `left` elements, or all of them past the caches.
template <bool stream, class T>
inline void put(Vec v, T* p, int64_t left) {
  if constexpr (stream) {
    v.stream(p);
  } else {
    v.store(p, left);
  }
}

// The same of a whole pair.
template <bool stream, class T>
inline void put(VecPair pair, T* p) {
  if constexpr (stream) {
    pair.stream(p);
  } else {
    pair.store(p);
  }
}

// Four independent sums, added in a fixed order at the end.
struct Sums {
  Vec part[4] = {Vec::zero(), Vec::zero(), Vec::zero(), Vec::zero()};
  Vec total() const { return (part[0] + part[1]) + (part[2] + part[3]); }
};

// Calls body(T()) with the element type of a floating dtype.
template <class Body>
void dispatch_float(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kF32: return body(float());
    case DType::kBF16: return body(BF16());
    case DType::kF16: return body(F16());
    default: __builtin_trap();
  }
}

// The value that storing as T and loading again gives.
template <class T>
Vec rounded_to(Vec v) {
  T stored[Vec::kLanes];
  v.store(stored);
  return Vec::load(stored);
}
template <>
inline Vec rounded_to<float>(Vec v) {
  return v;
}

// The errors below are the largest that were found among millions of arguments, against libm in
// double, over results that are normal numbers; polynomials are minimax fits. NaN gives NaN.

// 2^(i / 16), and their bits less i 2^19: then add_to_exponent(lookup(kPowersBelow, t), t) is
// 2^(k / 16) for the whole number k in the lowest bits of t.
alignas(64) constexpr float kPowers[16] = {
    0x1p+0f,        0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fep+0f,  0x1.3dea64p+0f,
    0x1.4bfdaep+0f, 0x1.5ab07ep+0f, 0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
    0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f};
alignas(64) constexpr float kPowersBelow[16] = {
    0x1p+0f,        0x1.fb5586p-1f, 0x1.f72b84p-1f, 0x1.f387a6p-1f, 0x1.f06fep-1f,  0x1.edea64p-1f,
    0x1.ebfdaep-1f, 0x1.eab07ep-1f, 0x1.ea09e6p-1f, 0x1.ea1148p-1f, 0x1.eace54p-1f, 0x1.ec4918p-1f,
    0x1.ee89fap-1f, 0x1.f199bep-1f, 0x1.f5818ep-1f, 0x1.fa4afap-1f};
// Adding it leaves a float's multiple of 1/16 in its lowest bits.
constexpr float kSixteenths = 0x1.8p19f;

// e^x is 2^n (1 + q) with n a multiple of 1/16, which t has in its lowest bits.
struct ExpParts {
  Vec t, n, q;
};
inline ExpParts exp_parts(Vec x) {
  const Vec t = fma(x, Vec::all(0x1.715476p0f), Vec::all(kSixteenths));
  const Vec n = t - Vec::all(kSixteenths);
  Vec r = fnma(n, Vec::all(0x1.62ep-1f), x);  // ln(2) in two parts: n times the first is exact
  r = fnma(n, Vec::all(0x1.0bfbe8p-15f), r);  // |r| <= ln(2) / 32
  const Vec q = fma(Vec::all(0.16665527f), r, Vec::all(0.5000163f));
  return {t, n, fma(q * r, r, r)};
}

// e^x within 1 ulp.
inline Vec exp(Vec x) {
  x = max(Vec::all(-105.0f), min(Vec::all(89.0f), x));  // beyond these the result is 0 or infinity
  const ExpParts e = exp_parts(x);
  const Vec power = lookup(kPowers, e.t);
  return times_power_of_2(fma(power, e.q, power), e.n);
}

// The same, cheaper, for |x| <= 87.3.
inline Vec exp_within_normals(Vec x) {
  const ExpParts e = exp_parts(x);
  const Vec power = add_to_exponent(lookup(kPowersBelow, e.t), e.t);
  return fma(power, e.q, power);
}

// 2^-y within 1.1 ulp for |y| <= 126.
inline Vec exp2_minus(Vec y) {
  const Vec t = Vec::all(kSixteenths) - y;
  const Vec r = y + (t - Vec::all(kSixteenths));  // of 2^-r, |r| <= 1/32
  Vec q = fma(Vec::all(-0.055500314f), r, Vec::all(0.24023433f));
  q = fma(q, r, Vec::all(-0.6931472f)) * r;
  const Vec power = add_to_exponent(lookup(kPowersBelow, t), t);
  return fma(power, q, power);
}

// s = 1 / (1 + 2^-y) within 3.1 ulp for |y| <= 126, and rest = 1 - s, which does not cancel.
struct Sigmoid {
  Vec s, rest;
};
inline Sigmoid sigmoid_base_2(Vec y) {
  const Vec one = Vec::all(1.0f), e = exp2_minus(y), s = one / (one + e);
  return {s, e * s};
}

// Within 1.4 ulp: a polynomial for |x| < 0.625, else 1 - 2 / (e^2|x| + 1) with the sign of x.
inline Vec tanh(Vec x) {
  const Vec one = Vec::all(1.0f), two = Vec::all(2.0f), size = abs(x), z = x * x;
  Vec p = Vec::all(-0.0056483075f);
  p = fma(p, z, Vec::all(0.020589817f));
  p = fma(p, z, Vec::all(-0.053725123f));
  p = fma(p, z, Vec::all(0.13331275f));
  p = fma(p, z, Vec::all(-0.33333275f));
  const Vec near = fma(p * z, x, x);
  const Vec far = one - two / (exp(size + size) + one);
  return select(less(size, Vec::all(0.625f)), near,
                select(less(x, Vec::zero()), Vec::zero() - far, far));
}

// (1 + erf(x / sqrt(2))) / 2 and the density e^(-x^2 / 2) / sqrt(2 pi).
struct Normal {
  Vec cdf, density;
};
// The lower tail is e^(-a^2 / 2) times Mills' ratio over sqrt(2 pi) at a = |x|, which keeps its
// relative precision: a polynomial of w = a + 1 less the lower end of its interval. The intervals
// are the numbers with the same exponent and the same first two bits of the mantissa; kMills holds
// the coefficients, lowest power first. |x| counts as at most 13.2, where the tail is below 2^-126.
// The distribution function is within 3.2 ulp for x > -1, 8 ulp for x > -4, 66 ulp for x > -13 (the
// rounding of x^2 / 2).
alignas(64) constexpr float kMills[6][16] = {
    {0.2615783f, 0.20578067f, 0.168102f, 0.14133133f, 0.12151394f, 0.094410636f, 0.0769193f,
     0.06477931f, 0.055893477f, 0.04379879f, 0.03597489f, 0.030509414f, 0.5f, 0.4140321f,
     0.34961882f, 0.30023247f},
    {-0.13736324f, -0.090271f, -0.062738165f, -0.045613904f, -0.034399875f, -0.021299565f,
     -0.014345707f, -0.010266377f, -0.0076877354f, -0.0047531417f, -0.0032184832f, -0.002319888f,
     -0.398942f, -0.2954341f, -0.22413278f, -0.17376788f},
    {0.062089738f, 0.035180356f, 0.02131007f, 0.013647064f, 0.009149728f, 0.0046041207f,
     0.0025946975f, 0.0015902655f, 0.0010380843f, 0.0005098518f, 0.00028565698f, 0.00017538575f,
     0.24998683f, 0.17007965f, 0.11877224f, 0.08495099f},
    {-0.024934746f, -0.012440545f, -0.006681313f, -0.0038210675f, -0.0022815662f, -0.00095097814f,
     -0.00045400922f, -0.00024027757f, -0.00013591466f, -5.3642198e-5f, -2.5026282e-5f,
     -1.31378065e-5f, -0.13275468f, -0.08418192f, -0.054846894f, -0.036645453f},
    {0.008651061f, 0.0038847686f, 0.00188448f, 0.000977574f, 0.0004970788f, 0.00017705312f,
     7.323819e-5f, 3.402492e-5f, 1.5791744e-5f, 5.1715506e-6f, 2.0518441e-6f, 9.3435955e-7f,
     0.060720712f, 0.036290664f, 0.022294631f, 0.01405434f},
    {-0.0019931097f, -0.00083149644f, -0.00037507227f, -0.00018120235f, -6.867045e-5f,
     -2.1966598e-5f, -8.209523e-6f, -3.4679765e-6f, -1.1534205e-6f, -3.321892e-7f, -1.1737641e-7f,
     -4.8122487e-8f, -0.019940056f, -0.011406089f, -0.006705818f, -0.004045688f}};
inline Normal normal(Vec x) {
  const Vec one = Vec::all(1.0f), size = min(Vec::all(13.2f), abs(x));
  const Vec e = exp_within_normals(size * size * Vec::all(-0.5f));
  const Vec w = size + one, place = leading_bits(w), rest = w - leading_part(w);
  Vec p = lookup(kMills[5], place);
  for (int k = 4; k >= 0; --k) p = fma(p, rest, lookup(kMills[k], place));
  const Vec tail = e * p;
  return {select(less(x, Vec::zero()), tail, one - tail), e * Vec::all(0.3989422804f)};
}

// Philox4x32-10 of core/philox.h on `groups` kLanes blocks at once: low and high are the halves of
// the block numbers, out[g][w] becomes word w of each block of group g. One group leaves the
// multipliers waiting for the round before.
template <int groups>
inline void philox_groups(RandomStream stream, const IVec* low, const IVec* high, IVec (*out)[4]) {
  WideIVec c0[groups], c1[groups], c2[groups], c3[groups];
  for (int g = 0; g < groups; ++g) {
    c0[g] = WideIVec::from(low[g]);
    c1[g] = WideIVec::from(high[g]);
    c2[g] = WideIVec::all(stream.step);
    c3[g] = WideIVec::all(stream.purpose);
  }
  uint32_t k0 = static_cast<uint32_t>(stream.seed), k1 = static_cast<uint32_t>(stream.seed >> 32);
  const WideIVec m0 = WideIVec::all(0xD2511F53u), m1 = WideIVec::all(0xCD9E8D57u);
#pragma GCC unroll 10
  for (int turn = 0; turn < 10; ++turn) {
    for (int g = 0; g < groups; ++g) {
      const WideIVec p0 = multiply_low(c0[g], m0), p1 = multiply_low(c2[g], m1);
      c0[g] = high_as_low(p1) ^ c1[g] ^ WideIVec::all(k0);
      c2[g] = high_as_low(p0) ^ c3[g] ^ WideIVec::all(k1);
      c1[g] = p1;
      c3[g] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int g = 0; g < groups; ++g) {
    out[g][0] = c0[g].low();
    out[g][1] = c1[g].low();
    out[g][2] = c2[g].low();
    out[g][3] = c3[g].low();
  }
}
inline void philox_blocks(RandomStream stream, IVec low, IVec high, IVec (&out)[4]) {
  philox_groups<1>(stream, &low, &high, &out);
}

// Adds a small number to 64-bit numbers that are kept in halves.
inline void add_wide(IVec& low, IVec& high, IVec number) {
  const IVec sum = low + number;
  high = select(less_unsigned(sum, low), high + IVec::all(1), high);
  low = sum;
}

// out: the stream's next groups * 4 * kLanes words from word 0 of `block` on, in order.
template <int groups>
inline void philox_words(RandomStream stream, uint64_t block, IVec (*out)[4]) {
  IVec low[groups], high[groups];
  for (int g = 0; g < groups; ++g) {
    const uint64_t first = block + static_cast<uint64_t>(g * kLanes);
    low[g] = IVec::all(static_cast<uint32_t>(first));
    high[g] = IVec::all(static_cast<uint32_t>(first >> 32));
    add_wide(low[g], high[g], block_order());
  }
  philox_groups<groups>(stream, low, high, out);
  for (int g = 0; g < groups; ++g) interleave(out[g]);
}

}  // namespace tenon::cpu::TENON_ISA
