// SPDX-License-Identifier: Apache-2.0
// The micro-kernels of matmul: each multiplies a panel of rows by a panel of columns, both made of
// units (matmul_unit.h), into an fp32 tile of sums that stay in registers.
#pragma once

#include <cstdint>

#include "kernels/cpu/matmul_unit.h"

namespace tenon::cpu::TENON_ISA {

// Tiles that fit the registers, wide ones and tall ones. Which of them is fastest depends on the
// machine and the shape (matmul_choice.h times them): they give the same bits.
struct TileShape {
  int rows, vectors;
};
template <int kLaneCount>
struct TileShapes {  // AVX-512: 32 registers
  static constexpr TileShape kAll[] = {{12, 2}, {14, 2}, {6, 4}};
};
template <>
struct TileShapes<8> {  // AVX2: 16 registers
  static constexpr TileShape kAll[] = {{6, 2}, {4, 3}};
};
template <>
struct TileShapes<1> {
  static constexpr TileShape kAll[] = {{4, 4}};
};
using Tiles = TileShapes<kLanes>;
constexpr int kTileCount = sizeof(Tiles::kAll) / sizeof(TileShape);
constexpr int64_t kMostTileRows = 14, kMostTileColumns = 4 * kLanes;

// Cache lines to ask for while a tile is multiplied: what the tile's epilogue and the next strip will
// read. One every kUnitsPerLine units: Zen 4 forgets most of those that are asked for at once.
struct Lines {
  static constexpr int kMost = 160;
  int count = 0;
  const char* at[kMost];

  void add(const char* first, int64_t lines) {
    for (; lines > 0 && count < kMost; --lines, first += 64) at[count++] = first;
  }
};
constexpr int64_t kUnitsPerLine = 8;

// tile (kRows, kVectors * kLanes) = the product of `units` units of a panel of `a_width` rows and one
// of `b_width` columns. Rows of the tile are `b_width` apart.
template <class Unit, int kRows, int kVectors>
void multiply_tile(int64_t units, const float* a, int64_t a_width, const float* b, int64_t b_width,
                   float* tile, const Lines& lines) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
      sum[i][j] = Unit::kWholeNumbers ? Vec::load(b - b_width + j * kLanes) : Vec::zero();
  }
  for (int line = 0; units > 0; units -= kUnitsPerLine, ++line) {
    if (line < lines.count) __builtin_prefetch(lines.at[line]);
    for (int64_t left = smaller(units, kUnitsPerLine); left > 0;
         --left, a += a_width, b += b_width) {
      Vec row[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) row[j] = Vec::load(b + j * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vec x = Vec::all(a[i]);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sum[i][j] = Unit::dot(x, row[j], sum[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j)
      Unit::result(sum[i][j]).store(tile + i * b_width + j * kLanes);
  }
}

using MultiplyTile = void (*)(int64_t units, const float* a, int64_t a_width, const float* b,
                              int64_t b_width, float* tile, const Lines& lines);

// The micro-kernel for 1 <= rows <= kRows.
template <class Unit, int kVectors, int kRows>
MultiplyTile tile_of_rows(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return tile_of_rows<Unit, kVectors, kRows - 1>(rows);
  }
  return multiply_tile<Unit, kRows, kVectors>;
}

// That of tile shape `shape`, for `rows` rows and `columns` of its columns.
template <class Unit, int kShape = 0>
MultiplyTile tile_for(int shape, int64_t rows, int64_t columns) {
  constexpr TileShape kTile = Tiles::kAll[kShape];
  if constexpr (kShape + 1 < kTileCount) {
    if (shape > kShape) return tile_for<Unit, kShape + 1>(shape, rows, columns);
  }
  if (columns <= kLanes) return tile_of_rows<Unit, 1, kTile.rows>(rows);
  if constexpr (kTile.vectors > 2) {
    if (columns <= 2 * kLanes) return tile_of_rows<Unit, 2, kTile.rows>(rows);
  }
  return tile_of_rows<Unit, kTile.vectors, kTile.rows>(rows);
}

}  // namespace tenon::cpu::TENON_ISA
