// SPDX-License-Identifier: Apache-2.0
// The inner parts of matmul: the micro-kernel, which multiplies a panel of rows by a panel of
// columns into an fp32 tile, and the epilogue, which turns a tile into elements of C.
#pragma once

#include <cstdint>

#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// The tile that fits the registers: 12 x 32 for AVX-512 (24 of 32 registers hold sums), 6 x 16 for
// AVX2 (12 of 16). On Zen 4 (EPYC, 2 cores) 12x32, 14x32 and 6x64 all ran at the FMA peak; 12x32
// divides 768 and its multiples.
constexpr int kTileRows = kLanes == 16 ? 12 : kLanes == 8 ? 6 : 4;
constexpr int kTileVectors = kLanes == 1 ? 4 : 2;
constexpr int64_t kTileColumns = kTileVectors * kLanes;

template <class T>
Vec load_some(const T* p, int64_t left) {
  return left >= kLanes ? Vec::load(p) : Vec::load(p, left);
}

template <class T>
void store_some(Vec v, T* p, int64_t left) {
  if (left >= kLanes) {
    v.store(p);
  } else {
    v.store(p, left);
  }
}

// tile = a b, or tile += a b: element (i, p) of a is a[p * a_step + i], row p of b is at b + p *
// b_step. Of the last vector of a row only `left` lanes exist where kTail; the others of the tile
// become 0.
template <class T, int kRows, int kVectors, bool kTail>
void multiply(int64_t k, const float* a, int64_t a_step, const T* b, int64_t b_step, int64_t left,
              float* tile, int64_t tile_stride, bool accumulate) {
  Vec sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j] = Vec::zero();
  }
  for (; k > 0; --k, a += a_step, b += b_step) {
    Vec row[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const T* at = b + j * kLanes;
      row[j] = kTail && j == kVectors - 1 ? Vec::load(at, left) : Vec::load(at);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec x = Vec::all(a[i]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = fma(x, row[j], sum[i][j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      float* at = tile + i * tile_stride + j * kLanes;
      (accumulate ? Vec::load(at) + sum[i][j] : sum[i][j]).store(at);
    }
  }
}

template <class T>
using Multiply = void (*)(int64_t k, const float* a, int64_t a_step, const T* b, int64_t b_step,
                          int64_t left, float* tile, int64_t tile_stride, bool accumulate);

// The micro-kernel for 1 <= rows <= kTileRows.
template <class T, int kVectors, bool kTail, int kRows = kTileRows>
Multiply<T> multiply_for(int64_t rows) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return multiply_for<T, kVectors, kTail, kRows - 1>(rows);
  }
  return multiply<T, kRows, kVectors, kTail>;
}

// c = alpha * tile + bias, plus c where `accumulate`; one rounding to T. Rows of the tile are
// padded to whole vectors.
template <class T>
void finish(const float* tile, int64_t tile_stride, int64_t rows, int64_t columns, float alpha,
            const float* bias, bool accumulate, T* c, int64_t c_stride) {
  const Vec factor = Vec::all(alpha);
  for (int64_t j = 0; j < columns; j += kLanes) {
    const int64_t left = columns - j;
    const Vec shift = bias != nullptr ? load_some(bias + j, left) : Vec::zero();
    for (int64_t i = 0; i < rows; ++i) {
      const Vec sum = Vec::load(tile + i * tile_stride + j);
      T* at = c + i * c_stride + j;
      const Vec base = accumulate ? load_some(static_cast<const T*>(at), left) + shift : shift;
      store_some(fma(factor, sum, base), at, left);
    }
  }
}

}  // namespace tenon::cpu::TENON_ISA
