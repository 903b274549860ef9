// SPDX-License-Identifier: Apache-2.0
// How matmul_few brings the few to fp32 in the order in which a kernel reads them.
#pragma once

#include <cstdint>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/matmul_source.h"

namespace tenon::cpu::TENON_ISA::few {

// Elements of a row along K that are multiplied at a time.
constexpr int64_t kPair = 2 * kLanes;

// Whether VecPair::load() brings what lies at even places and at odd ones apart.
template <class T>
constexpr bool kUnzips = false;
template <>
inline constexpr bool kUnzips<BF16> = true;

// `left` elements of a stored row from x on, at most kLanes, times its scale where it has one.
template <class T>
Vec load_row(const T* x, int64_t left, const float* scale) {
  const Vec v = left >= kLanes ? Vec::load(x) : Vec::load(x, left);
  return scale != nullptr ? v * Vec::all(*scale) : v;
}

// out[c][r] = x[r][c] of `rows` <= kLanes rows of `columns` elements; the missing rows become 0.
// Writes whole vectors, `out_step` apart, and only those of the first `columns`.
template <class T>
void turn(const T* x, int64_t stride, int64_t rows, int64_t columns, const float* scales,
          float* out, int64_t out_step) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    const int64_t left = smaller(columns - c, kLanes);
    Lanes square[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) {
      square[r] = lanes_of(
          r < rows ? load_row(x + r * stride + c, left, scales == nullptr ? nullptr : scales + r)
                   : Vec::zero());
    }
    transpose(square);
    for (int64_t q = 0; q < left; ++q) {
      __builtin_memcpy(out + (c + q) * out_step, &square[q], sizeof(Lanes));
    }
  }
}

inline VecPair unzipped(Vec a, Vec b) {
  const Lanes even = unzip<0>(lanes_of(a), lanes_of(b), AllLanes());
  const Lanes odd = unzip<1>(lanes_of(a), lanes_of(b), AllLanes());
  VecPair pair;
  __builtin_memcpy(&pair.first, &even, sizeof(even));
  __builtin_memcpy(&pair.second, &odd, sizeof(odd));
  return pair;
}

// VecPair::load() of `left` elements; the missing ones become 0.
template <class T>
VecPair load_pair(const T* x, int64_t left) {
  if (left >= kPair) return VecPair::load(x);
  const Vec a = Vec::load(x, left);
  const Vec b = left > kLanes ? Vec::load(x + kLanes, left - kLanes) : Vec::zero();
  if constexpr (kUnzips<T>) return unzipped(a, b);
  return {a, b};
}

// The few for dot products: pairs of vectors along K, those of `rows` few side by side, the last
// padded with 0. Few i of them, step p, lies at (p / kPair * rows + i) * kPair + p % kPair, or where
// VecPair::load() brings it if the wide `unzips`.
template <class T>
void pack_pairs(const Source& side, int64_t i, int64_t rows, bool unzips, float* out) {
  for (int64_t p = 0; p < side.k; p += kPair, out += rows * kPair) {
    for (int64_t q = p; q < p + kPair; q += kLanes) {
      float* to = out + (q - p);
      if (q >= side.k) {
        for (int64_t r = 0; r < rows; ++r) Vec::zero().store(to + r * kPair);
      } else if (side.along_k) {
        for (int64_t r = 0; r < rows; ++r) {
          const Vec v = load_row(side.at<T>(i + r, q), side.k - q, side.scale(i + r));
          v.store(to + r * kPair);
        }
      } else {
        turn(side.at<T>(i, q), side.stride, smaller(kLanes, side.k - q), rows, side.scale(q), to,
             kPair);
      }
    }
    for (int64_t r = 0; unzips && r < rows; ++r) {
      float* to = out + r * kPair;
      const VecPair pair = unzipped(Vec::load(to), Vec::load(to + kLanes));
      pair.first.store(to);
      pair.second.store(to + kLanes);
    }
  }
}

// Floats from one step of K to the next in the other order: whole vectors are written, and one that
// is wider than the few spills into steps that are written later.
inline int64_t step_width(int64_t few) {
  return few <= kLanes ? few : divide_up(few, kLanes) * kLanes;
}

// The few for sums of rows: those of one step of K side by side. Writes up to kLanes floats past the
// end.
template <class T>
void pack_steps(const Source& side, int64_t few, float* out) {
  const int64_t width = step_width(few);
  if (!side.along_k) {
    for (int64_t p = 0; p < side.k; ++p) {
      const T* x = side.at<T>(0, p);
      for (int64_t i = 0; i < few; i += kLanes) {
        load_row(x + i, few - i, side.scale(p)).store(out + p * width + i);
      }
    }
    return;
  }
  for (int64_t p = 0; p < side.k; p += kLanes) {
    for (int64_t i = 0; i < few; i += kLanes) {
      turn(side.at<T>(i, p), side.stride, smaller(kLanes, few - i), smaller(kLanes, side.k - p),
           side.scale(i), out + p * width + i, width);
    }
  }
}

}  // namespace tenon::cpu::TENON_ISA::few
