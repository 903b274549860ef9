// SPDX-License-Identifier: Apache-2.0
// Computes    rows in int8 with a scale for each, but for their outliers; and single columns as fp32.
// Layout      rows of C contiguous elements.
// Work split  a row at a time, 16 where columns are gathered.
// Numerics    codes are rounded to nearest even by adding 1.5 * 2^23, in whose sum they are the lowest
//             bits: exact for magnitudes up to 2^22, and these are at most 127.
// Traffic     a row from memory once: the second pass over it finds it in the first-level cache.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul_source.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 256;

// As fp16 holds it.
Vec half_of(Vec v) {
  F16 half[kLanes];
  v.store(half);
  return Vec::load(half);
}

template <class T>
void mark_outliers(const T* x, const QuantizeRowsArgs& a) {
  for (int64_t c = 0; c < a.channels; ++c) {
    float number;
    Vec::load(x + c, 1).store(&number, 1);
    // Several rows may say the same of a column at once.
    if (!(__builtin_fabsf(number) < a.threshold))
      __atomic_store_n(a.outliers + c, 1, __ATOMIC_RELAXED);
  }
}

template <class T>
void quantize_row(const QuantizeRowsArgs& a, int64_t row) {
  const T* x = static_cast<const T*>(a.x) + row * a.channels;
  int8_t* codes = a.codes + row * a.channels;
  const Vec threshold = Vec::all(a.threshold), zero = Vec::zero(), one = Vec::all(1.0f);
  Vec most[4] = {zero, zero, zero, zero};
  Sums beyond;
  for_vectors(a.channels, [&](int64_t c, int64_t left, int part) {
    const Vec size = abs(Vec::load(x + c, left));
    const auto inside = less(size, threshold);
    most[part] = max(most[part], select(inside, half_of(size), zero));
    beyond.part[part] = beyond.part[part] + select(inside, zero, one);
  });
  const float largest = max(max(most[0], most[1]), max(most[2], most[3])).largest();
  if (beyond.total().sum() > 0) mark_outliers(x, a);
  a.scales[row] = largest / 127.0f;
  const Vec inverse = Vec::all(largest > 0 ? 127.0f / largest : 0.0f), shift = Vec::all(0x1.8p23f);
  alignas(64) float sums[kPiece];
  for (int64_t first = 0; first < a.channels; first += kPiece) {
    const int64_t count = smaller(kPiece, a.channels - first);
    for (int64_t c = 0; c < count; c += kLanes) {
      const Vec v = Vec::load(x + first + c, count - c);
      const Vec inside = select(less(abs(v), threshold), half_of(v), zero);
      (inside * inverse + shift).store(sums + c);
    }
    for (int64_t c = 0; c < count; ++c)
      codes[first + c] = static_cast<int8_t>(__builtin_bit_cast(uint32_t, sums[c]) & 255);
  }
}

}  // namespace

void quantize_rows(const QuantizeRowsArgs& a) {
  for_chunks(1, [&](int64_t) { __builtin_memset(a.outliers, 0, static_cast<size_t>(a.channels)); });
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_chunks(a.rows, [&](int64_t row) { quantize_row<T>(a, row); });
  });
}

void gather_columns(const GatherColumnsArgs& a) {
  constexpr int64_t kRows = 16;
  dispatch_element(a.dtype, [&]<class T>(T) {
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* x = static_cast<const T*>(a.x) + row * a.channels;
        const float scale = a.scales == nullptr ? 1.0f : a.scales[row];
        for (int64_t k = 0; k < a.columns; ++k) {
          float number = 0;
          if (a.index[k] >= 0) Vec::load(x + a.index[k], 1).store(&number, 1);
          // A NaN is kept: it is not below.
          if (__builtin_fabsf(number) < a.least) number = 0;
          a.y[row * a.columns + k] = number * scale;
        }
      }
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
