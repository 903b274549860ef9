// SPDX-License-Identifier: Apache-2.0
// Computes    y1 = x1 cos - x2 sin and y2 = x2 cos + x1 sin, where x1 and x2 are the halves of the
//             first `rotary` elements of a head; the sine has the other sign for the inverse.
// Layout      tokens of H heads of D contiguous elements; tables of fp32 rows of rotary / 2.
// Work split  16 tokens at a time.
// Numerics    fp32, one rounding of each product and sum, rounded once on store.
// Traffic     reads and writes each element once; a token's row of the tables stays in the cache.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kTokens = 16;

// One head: `half` elements and as many after them.
template <class T>
void rotate_head(T* x1, const float* cosines, const float* sines, bool inverse, int64_t half) {
  T* x2 = x1 + half;
  for (int64_t i = 0; i < half; i += kLanes) {
    const int64_t left = half - i;
    const Vec c = Vec::load(cosines + i, left), sine = Vec::load(sines + i, left);
    const Vec s = inverse ? Vec::zero() - sine : sine;
    const Vec v1 = Vec::load(x1 + i, left), v2 = Vec::load(x2 + i, left);
    fnma(v2, s, v1 * c).store(x1 + i, left);
    fma(v1, s, v2 * c).store(x2 + i, left);
  }
}

}  // namespace

void rotary(const RotaryArgs& a) {
  const int64_t half = a.rotary / 2;
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_ranges(a.tokens, kTokens, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t row = (a.positions != nullptr ? a.positions[t] : t % a.sequence) * half;
        T* x = static_cast<T*>(a.x) + t * a.stride;
        for (int64_t h = 0; h < a.heads; ++h) {
          rotate_head(x + h * a.head_size, a.cosines + row, a.sines + row, a.inverse, half);
        }
      }
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
