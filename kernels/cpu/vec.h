// SPDX-License-Identifier: Apache-2.0
// What kernels are written with: Vec (kLanes floats), IVec (as many 32-bit integers) and Mask (as
// many bits) of the instruction set that is being compiled, functions of them, and calls into core.
//
//   Vec::load(p), .store(p)   kLanes elements of float, BF16 or F16: widened, or rounded to nearest
//                             even (NaN stays NaN)
//   Vec::load(p, left),       the first `left` of them: further lanes are 0, further memory is not
//     .store(p, left)         touched
//   .sum(), .largest()        over the lanes, in a fixed tree
//   fma(a, b, c)              a b + c, rounded once (in the scalar table: twice)
//   fnma(a, b, c)             c - a b, likewise
//   max(a, b), min(a, b)      b where either is NaN
//   less(a, b), equal(a, b)   false where either is NaN
//   select(mask, a, b)        a where the mask is set, else b
//   times_power_of_2(a, n)    a 2^n for a whole n in [-152, 129]; over- and underflows as floats do
//   multiply_wide(a, b)       the 64-bit products of 32-bit lanes, in halves
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

// e^x within 1.1 ulp: a power of two times a polynomial of r, |r| <= ln(2) / 2.
inline Vec exp(Vec x) {
  x = max(Vec::all(-105.0f), min(Vec::all(89.0f), x));  // beyond these the result is 0 or infinity
  const Vec n = round(x * Vec::all(0x1.715476p0f));
  Vec r = fnma(n, Vec::all(0x1.62e4p-1f), x);  // ln(2) in two parts: n times the first is exact
  r = fnma(n, Vec::all(0x1.7f7d1cp-20f), r);
  Vec p = Vec::all(0.0013814465f);
  p = fma(p, r, Vec::all(0.008368781f));
  p = fma(p, r, Vec::all(0.041668393f));
  p = fma(p, r, Vec::all(0.1666652f));
  p = fma(p, r, Vec::all(0.49999994f));
  p = fma(p * r, r, r);
  return times_power_of_2(p + Vec::all(1.0f), n);
}

// 1 / (1 + e^-x) within 2.5 ulp.
inline Vec sigmoid(Vec x) { return Vec::all(1.0f) / (Vec::all(1.0f) + exp(Vec::zero() - x)); }

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
// The distribution function is 1/2 + x p(x^2) for |x| < 1; beyond, its lower tail is e^(-x^2 / 2) u
// p(u) with u = 1 / (1 + 0.3 |x|), so that it keeps its relative precision: within 3.1 ulp for x >
// -1, 10 ulp for x > -4, 67 ulp for x > -13 (the rounding of x^2 / 2).
inline Normal normal(Vec x) {
  const Vec one = Vec::all(1.0f), half = Vec::all(0.5f), size = abs(x), z = x * x;
  const Vec e = exp(z * Vec::all(-0.5f));
  Vec p = Vec::all(-7.4628933e-06f);
  p = fma(p, z, Vec::all(0.00011295217f));
  p = fma(p, z, Vec::all(-0.0011857849f));
  p = fma(p, z, Vec::all(0.009973078f));
  p = fma(p, z, Vec::all(-0.066490315f));
  p = fma(p, z, Vec::all(0.3989423f));
  const Vec near = fma(p, x, half);
  const Vec u = one / fma(size, Vec::all(0.3f), one);
  Vec q = Vec::all(0.026767962f);
  q = fma(q, u, Vec::all(-0.12740804f));
  q = fma(q, u, Vec::all(0.16504642f));
  q = fma(q, u, Vec::all(-0.023007154f));
  q = fma(q, u, Vec::all(0.115416974f));
  q = fma(q, u, Vec::all(0.10315622f));
  q = fma(q, u, Vec::all(0.12032809f));
  q = fma(q, u, Vec::all(0.119652264f));
  const Vec tail = e * u * q;
  const Vec far = select(less(x, Vec::zero()), tail, one - tail);
  return {select(less(size, one), near, far), e * Vec::all(0.3989422804f)};
}

// Philox4x32-10 of core/philox.h on kLanes blocks at once: block[0] and block[1] are the low and
// high halves of the block numbers, out[w] becomes word w of each.
inline void philox_blocks(RandomStream stream, IVec low, IVec high, IVec (&out)[4]) {
  IVec c0 = low, c1 = high, c2 = IVec::all(stream.step), c3 = IVec::all(stream.purpose);
  uint32_t k0 = static_cast<uint32_t>(stream.seed), k1 = static_cast<uint32_t>(stream.seed >> 32);
  const IVec m0 = IVec::all(0xD2511F53u), m1 = IVec::all(0xCD9E8D57u);
  for (int turn = 0; turn < 10; ++turn) {
    const WideProduct p0 = multiply_wide(c0, m0), p1 = multiply_wide(c2, m1);
    c0 = p1.high ^ c1 ^ IVec::all(k0);
    c2 = p0.high ^ c3 ^ IVec::all(k1);
    c1 = p1.low;
    c3 = p0.low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// Adds a small number to 64-bit numbers that are kept in halves.
inline void add_wide(IVec& low, IVec& high, IVec number) {
  const IVec sum = low + number;
  high = select(less_unsigned(sum, low), high + IVec::all(1), high);
  low = sum;
}

// out[0..3]: the stream's next 4 kLanes words from word 0 of `block` on, in order.
inline void philox_words(RandomStream stream, uint64_t block, IVec (&out)[4]) {
  IVec low = IVec::all(static_cast<uint32_t>(block)),
       high = IVec::all(static_cast<uint32_t>(block >> 32));
  add_wide(low, high, block_order());
  philox_blocks(stream, low, high, out);
  interleave(out);
}

}  // namespace tenon::cpu::TENON_ISA
