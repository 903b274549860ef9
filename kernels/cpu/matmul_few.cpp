// SPDX-License-Identifier: Apache-2.0
// Computes    matmul where one side has at most kFew rows (a token at a time) or columns (an
//             adapter of low rank).
// Layout      the few are packed to fp32; the long side is read as it lies. Where its rows run
//             along K, each element of c is a dot product; otherwise rows times numbers are added.
// Work split  strips of kStrip rows or columns of the long side.
// Numerics    fp32 sums, lane-wise along K, or in the order of K by blocks of kStepK; one rounding
//             to the dtype of c.
// Traffic     reads the long side once: bound by memory bandwidth.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/matmul_pack.h"
#include "kernels/cpu/matmul_tile.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kStrip = 128;
constexpr int64_t kStepK = 16;  // rows of the long side that are read side by side

// One part of K: the few as rows along K (for dot products) or as columns across it.
struct Part {
  Source wide;
  const float* few;
  int64_t few_stride;  // between the few where wide.along_k, else between steps of K
};

// sums[i][j] += dot(few row i, wide row j).
template <class T, int kRows, int kColumns>
void add_dots(int64_t k, const float* few, int64_t few_stride, const T* wide, int64_t wide_stride,
              float* sums) {
  Vec sum[kRows][kColumns];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) sum[i][j] = Vec::zero();
  }
  const auto step = [&](int64_t p, auto load) {
    Vec column[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      column[j] = load(wide + j * wide_stride + p);
      // The rows that come next: 16 x 50257 x 768 went from 15.0 to 13.3 ms on 2 cores of an EPYC
      // (Zen 4).
      __builtin_prefetch(wide + (j + kColumns) * wide_stride + p);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Vec x = Vec::load(few + i * few_stride + p);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sum[i][j] = fma(x, column[j], sum[i][j]);
    }
  };
  int64_t p = 0;
  for (; p + kLanes <= k; p += kLanes) step(p, [](const T* at) { return Vec::load(at); });
  if (p < k) step(p, [&](const T* at) { return Vec::load(at, k - p); });
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) sums[i * kStrip + j] += sum[i][j].sum();
  }
}

// As many columns as leave registers for the sums: kRows * columns <= kLanes.
template <class T, int kRows>
void add_dots_strip(const Part& part, int64_t i, int64_t begin, int64_t count, float* sums) {
  constexpr int kColumns = kRows * 4 <= kLanes ? 4 : kRows * 2 <= kLanes ? 2 : 1;
  const float* few = part.few + i * part.few_stride;
  const int64_t stride = part.wide.stride, k = part.wide.k;
  int64_t j = 0;
  for (; j + kColumns <= count; j += kColumns) {
    add_dots<T, kRows, kColumns>(k, few, part.few_stride, part.wide.at<T>(begin + j, 0), stride,
                                 sums + i * kStrip + j);
  }
  for (; j < count; ++j) {
    add_dots<T, kRows, 1>(k, few, part.few_stride, part.wide.at<T>(begin + j, 0), stride,
                          sums + i * kStrip + j);
  }
}

constexpr int kDotRows = kLanes == 16 ? 8 : 4;

template <class T, int kRows = kDotRows>
void add_dots_rows(const Part& part, int64_t rows, int64_t i, int64_t begin, int64_t count,
                   float* sums) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return add_dots_rows<T, kRows - 1>(part, rows, i, begin, count, sums);
  }
  add_dots_strip<T, kRows>(part, i, begin, count, sums);
}

// sums[i][j] += sum over p of few[p][i] * wide[p][begin + j].
template <class T>
void add_products(const Part& part, int64_t few, int64_t begin, int64_t count, float* sums) {
  for (int64_t p = 0; p < part.wide.k; p += kStepK) {
    const int64_t steps = smaller(kStepK, part.wide.k - p);
    for (int64_t i = 0; i < few; i += kTileRows) {
      const int64_t rows = smaller(kTileRows, few - i);
      const auto run = multiply_for<T, kTileVectors, false>(rows);
      const auto run_tail = multiply_for<T, 1, true>(rows);
      const float* x = part.few + p * part.few_stride + i;
      int64_t j = 0;
      for (; j + kTileColumns <= count; j += kTileColumns) {
        run(steps, x, part.few_stride, part.wide.at<T>(begin + j, p), part.wide.stride, 0,
            sums + i * kStrip + j, kStrip, true);
      }
      for (; j < count; j += kLanes) {
        run_tail(steps, x, part.few_stride, part.wide.at<T>(begin + j, p), part.wide.stride,
                 count - j, sums + i * kStrip + j, kStrip, true);
      }
    }
  }
}

// A panel of the few: pack() wants whole vectors where there is more than one.
int64_t few_width(int64_t few) { return few <= kLanes ? few : divide_up(few, kLanes) * kLanes; }

// Floats that make_part needs.
int64_t part_room(int64_t few, int64_t k) { return 2 * few_width(few) * (k + kLanes) + kLanes; }

// Packs the few for one part of K, whose steps begin at `begin` of the joined K, into `out`.
Part make_part(const Sources& few_sources, const Source& wide, int64_t begin, int64_t few,
               float* out) {
  const int64_t width = few_width(few);
  pack(few_sources, 0, few, begin, wide.k, width, width * wide.k, out);
  if (!wide.along_k) return {wide, out, width};
  const int64_t stride = divide_up(wide.k, kLanes) * kLanes;
  float* rows = out + width * wide.k + kLanes;
  for (int64_t i = 0; i < few; ++i) {
    for (int64_t p = 0; p < stride; ++p) {
      rows[i * stride + p] = p < wide.k ? out[p * width + i] : 0.0f;
    }
  }
  return {wide, rows, stride};
}

// sums[i][j] = the product of few i and wide begin + j, over both parts of K.
void multiply_strip(const Part (&parts)[2], int64_t few, int64_t begin, int64_t count,
                    float* sums) {
  for (const Part& part : parts) {
    if (part.wide.k == 0) continue;
    dispatch_float(part.wide.dtype, [&](auto element) {
      using T = decltype(element);
      if (!part.wide.along_k) return add_products<T>(part, few, begin, count, sums);
      for (int64_t i = 0; i < few; i += kDotRows) {
        add_dots_rows<T>(part, smaller(kDotRows, few - i), i, begin, count, sums);
      }
    });
  }
}

}  // namespace

void matmul_few(const MatmulArgs& args) {
  const bool few_columns = args.n < args.m;
  const Sources few_sources = few_columns ? right_sources(args) : left_sources(args);
  const Sources wide_sources = few_columns ? left_sources(args) : right_sources(args);
  const int64_t few = smaller(args.m, args.n), wide = larger(args.m, args.n);

  const int64_t room = part_room(few, args.k), room2 = part_room(few, args.k2);
  float* scratch =
      static_cast<float*>(thread_scratch(0, (room + room2) * static_cast<int64_t>(sizeof(float))));
  const Part parts[2] = {make_part(few_sources, wide_sources.part[0], 0, few, scratch),
                         make_part(few_sources, wide_sources.part[1], args.k, few, scratch + room)};

  for_ranges(wide, kStrip, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    alignas(64) float sums[kFew * kStrip] = {};
    multiply_strip(parts, few, begin, count, sums);
    const float* bias = args.bias;
    if (few_columns) {
      constexpr int64_t kStride = divide_up(kFew, kLanes) * kLanes;
      alignas(64) float turned[kStrip * kStride] = {};
      for (int64_t j = 0; j < count; ++j) {
        for (int64_t i = 0; i < few; ++i) turned[j * kStride + i] = sums[i * kStrip + j];
      }
      dispatch_float(args.c_dtype, [&](auto element) {
        finish(turned, kStride, count, few, args.alpha, bias, args.accumulate,
               static_cast<decltype(element)*>(args.c) + begin * args.c_stride, args.c_stride);
      });
    } else {
      dispatch_float(args.c_dtype, [&](auto element) {
        finish(sums, kStrip, few, count, args.alpha, bias == nullptr ? nullptr : bias + begin,
               args.accumulate, static_cast<decltype(element)*>(args.c) + begin, args.c_stride);
      });
    }
  });
}

}  // namespace tenon::cpu::TENON_ISA
