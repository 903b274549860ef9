// SPDX-License-Identifier: Apache-2.0
// The small products of attention, on blocks that lie in the first- or second-level cache, and
// what turns one into another's operand.
#pragma once

#include "kernels/cpu/matmul_unit.h"

namespace tenon::cpu::TENON_ISA::flash {

constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

// What elements of type T are multiplied as: pairs of bf16 where the instruction set has them (and
// the matmul of this table is faster for it), else fp32.
template <class T>
struct Operand {
  using Unit = FloatUnit;
};
template <>
struct Operand<BF16> {
  using Unit = Bf16Unit;
};

// c[r][x] = start + sum over k < depth of a[r * a_row + k * a_step] * b[k * b_row + x], r < rows,
// x < width, where a and b are arrays of units (matmul_unit.h), 32 bits each. Requires: rows a
// multiple of 4, width a multiple of the lanes.
struct Product {
  const float* a;
  int64_t a_row, a_step;
  const float* b;
  int64_t b_row;
  float* c;
  int64_t c_row;
  int64_t rows, width, depth;
};

// Sums of a tile: 4 x 4 of 32 registers (93 % of the FMA peak on Zen 4 at depth 64, as 6 x 4 and
// 8 x 3; 8 x 2 has 90 %), 4 x 2 of 16. A width of 5 or 6 vectors (heads of 80 and 96) is one tile.
constexpr int kTileRows = 4;
constexpr int kMostVecs = kLanes == 16 ? 6 : 2;

// What a tile's sums start from: nothing, c, or c times a factor for each column.
struct FromZero {
  Vec operator()(const float*, int64_t) const { return Vec::zero(); }
};
struct FromC {
  Vec operator()(const float* c, int64_t) const { return Vec::load(c); }
};
struct FromScaledC {
  const float* factor;  // (width)
  Vec operator()(const float* c, int64_t column) const {
    return Vec::load(c) * Vec::load(factor + column);
  }
};

// What becomes of them: as they are, or see the users of multiply.
struct Store {
  template <int kVecs>
  void operator()(const Product& p, Vec (&sums)[kTileRows][kVecs], int64_t row,
                  int64_t column) const {
    float* c = p.c + row * p.c_row + column;
    for (int r = 0; r < kTileRows; ++r) {
      for (int v = 0; v < kVecs; ++v) sums[r][v].store(c + r * p.c_row + v * kLanes);
    }
  }
};

template <class Unit, int kVecs, class Start, class Finish>
inline void multiply_tile(const Product& p, int64_t row, int64_t column, const Start& start,
                          const Finish& finish) {
  Vec sums[kTileRows][kVecs];
  const float* c = p.c + row * p.c_row + column;
  for (int r = 0; r < kTileRows; ++r) {
    for (int v = 0; v < kVecs; ++v)
      sums[r][v] = start(c + r * p.c_row + v * kLanes, column + v * kLanes);
  }
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  for (int64_t k = 0; k < p.depth; ++k, a += p.a_step, b += p.b_row) {
    Vec bs[kVecs];
    for (int v = 0; v < kVecs; ++v) bs[v] = Vec::load(b + v * kLanes);
    for (int r = 0; r < kTileRows; ++r) {
      const Vec x = Vec::all(a[r * p.a_row]);
      for (int v = 0; v < kVecs; ++v) sums[r][v] = Unit::dot(x, bs[v], sums[r][v]);
    }
  }
  finish(p, sums, row, column);
}

// The tiles of one column of tiles, kVecs wide or less.
template <class Unit, int kVecs, class Start, class Finish>
inline void multiply_column(const Product& p, int64_t column, int64_t vecs, const Start& start,
                            const Finish& finish) {
  if constexpr (kVecs > 1) {
    if (vecs < kVecs) return multiply_column<Unit, kVecs - 1>(p, column, vecs, start, finish);
  }
  for (int64_t row = 0; row < p.rows; row += kTileRows)
    multiply_tile<Unit, kVecs>(p, row, column, start, finish);
}

template <class Unit, class Start, class Finish>
inline void multiply(const Product& p, const Start& start, const Finish& finish) {
  const int64_t vecs = p.width / kLanes, columns = divide_up(vecs, kMostVecs),
                each = divide_up(vecs, larger(columns, 1));
  for (int64_t v = 0; v < vecs; v += each)
    multiply_column<Unit, kMostVecs>(p, v * kLanes, smaller(each, vecs - v), start, finish);
}

// to[c][r] = from[r][c]. Requires: rows and columns multiples of 4.
inline void transpose(const float* from, int64_t from_row, float* to, int64_t to_row, int64_t rows,
                      int64_t columns) {
  typedef float Four __attribute__((vector_size(16)));
  typedef int32_t Order __attribute__((vector_size(16)));
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t c = 0; c < columns; c += 4) {
      Four x[4];
      for (int i = 0; i < 4; ++i) __builtin_memcpy(&x[i], from + (r + i) * from_row + c, 16);
      const Four low01 = __builtin_shuffle(x[0], x[1], Order{0, 4, 1, 5});
      const Four low23 = __builtin_shuffle(x[2], x[3], Order{0, 4, 1, 5});
      const Four high01 = __builtin_shuffle(x[0], x[1], Order{2, 6, 3, 7});
      const Four high23 = __builtin_shuffle(x[2], x[3], Order{2, 6, 3, 7});
      x[0] = __builtin_shuffle(low01, low23, Order{0, 1, 4, 5});
      x[1] = __builtin_shuffle(low01, low23, Order{2, 3, 6, 7});
      x[2] = __builtin_shuffle(high01, high23, Order{0, 1, 4, 5});
      x[3] = __builtin_shuffle(high01, high23, Order{2, 3, 6, 7});
      for (int i = 0; i < 4; ++i) __builtin_memcpy(to + (c + i) * to_row + r, &x[i], 16);
    }
  }
}

}  // namespace tenon::cpu::TENON_ISA::flash
