// SPDX-License-Identifier: Apache-2.0
// How matmul_few sees its operands, and how it brings the few to fp32 in the order in which a kernel
// reads them.
#pragma once

#include <cstdint>

#include "core/kernel_table.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA::few {

// One side of a product: element (i, p), i counting the few or the wide and p along K.
struct Side {
  const void* data;
  int64_t stride;
  bool along_k;  // neighbours in memory are neighbours in K; otherwise in i
  DType dtype;
  const float* scales;  // (stored rows) where kI8
  int64_t k;

  template <class T>
  const T* at(int64_t i, int64_t p) const {
    return static_cast<const T*>(data) + (along_k ? i * stride + p : p * stride + i);
  }
  // The scale of stored row r and of those that follow.
  const float* scale(int64_t r) const { return scales == nullptr ? nullptr : scales + r; }
};

inline Side left_side(const MatrixOperand& a, int64_t k) {
  return {a.data, a.stride, !a.transposed, a.dtype, a.scales, k};
}
inline Side right_side(const MatrixOperand& b, int64_t k) {
  return {b.data, b.stride, b.transposed, b.dtype, b.scales, k};
}

// Calls body(T()) with the element type of an operand.
template <class Body>
void dispatch_element(DType dtype, const Body& body) {
  if (dtype == DType::kI8) return body(int8_t());
  dispatch_float(dtype, body);
}

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

// The few for dot products: vectors along K, those of `rows` few side by side, the last padded with
// 0. Few i of them, step p, lies at (p / kLanes * rows + i) * kLanes + p % kLanes.
template <class T>
void pack_vectors(const Side& side, int64_t i, int64_t rows, float* out) {
  if (side.along_k) {
    for (int64_t r = 0; r < rows; ++r) {
      const T* x = side.at<T>(i + r, 0);
      float* to = out + r * kLanes;
      for (int64_t p = 0; p < side.k; p += kLanes, to += rows * kLanes) {
        load_row(x + p, side.k - p, side.scale(i + r)).store(to);
      }
    }
    return;
  }
  for (int64_t p = 0; p < side.k; p += kLanes, out += rows * kLanes) {
    turn(side.at<T>(i, p), side.stride, smaller(kLanes, side.k - p), rows, side.scale(p), out,
         kLanes);
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
void pack_steps(const Side& side, int64_t few, float* out) {
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
