// SPDX-License-Identifier: Apache-2.0
// The packers of matmul: they bring any operand (fp32, bf16 or fp16, either way round) into fp32
// panels. A panel holds `width` rows of op(a), or columns of op(b): element (i, p), p counting
// along K, lies at p * width + i.
#pragma once

#include <cstdint>

#include "core/kernel_table.h"
#include "kernels/cpu/matmul_tile.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// An operand as seen by a packer: element (i, p) where i becomes the panel's inner index.
struct Source {
  const void* data;
  int64_t stride;
  bool along_k;  // neighbours in memory are neighbours in K; otherwise in i
  DType dtype;
  int64_t k;

  // Address of element (i, p).
  template <class T>
  const T* at(int64_t i, int64_t p) const {
    return static_cast<const T*>(data) + (along_k ? i * stride + p : p * stride + i);
  }
};

// Both pairs of one side: the second goes on where the first ends.
struct Sources {
  Source part[2];
};

inline Sources left_sources(const MatmulArgs& args) {
  return {{{args.a.data, args.a.stride, !args.a.transposed, args.a.dtype, args.k},
           {args.a2.data, args.a2.stride, !args.a2.transposed, args.a2.dtype, args.k2}}};
}
inline Sources right_sources(const MatmulArgs& args) {
  return {{{args.b.data, args.b.stride, args.b.transposed, args.b.dtype, args.k},
           {args.b2.data, args.b2.stride, args.b2.transposed, args.b2.dtype, args.k2}}};
}

template <int... kIndex>
struct Indices {};
template <int kCount, int... kIndex>
struct MakeIndices : MakeIndices<kCount - 1, kCount - 1, kIndex...> {};
template <int... kIndex>
struct MakeIndices<0, kIndex...> {
  using Type = Indices<kIndex...>;
};

using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;

// a0 b0 a1 b1 ... from the lower (kFrom = 0) or the upper (kFrom = kLanes / 2) halves of a and b.
template <int kFrom, int... kIndex>
Lanes zip(Lanes a, Lanes b, Indices<kIndex...>) {
  return __builtin_shufflevector(a, b, (kFrom + kIndex / 2 + kIndex % 2 * kLanes)...);
}

// Transposes a square of kLanes x kLanes: log2(kLanes) rounds of zipping row i with row i + kLanes
// / 2.
inline void transpose(Lanes (&x)[kLanes]) {
  constexpr int kHalf = kLanes / 2;
  using All = typename MakeIndices<kLanes>::Type;
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    Lanes y[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
      y[2 * i] = zip<0>(x[i], x[i + kHalf], All());
      y[2 * i + 1] = zip<kHalf>(x[i], x[i + kHalf], All());
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

// One panel, of `count` <= width inner indices, from a source whose rows run along K; missing ones
// become 0. Vectors are stored whole: one that is wider than the panel spills into the next step of
// K, which is written later, or into kLanes elements past the end.
template <class T>
void pack_along_k(const T* x, int64_t stride, int64_t count, int64_t k, int64_t width, float* out) {
  for (int64_t p = 0; p < k; p += kLanes) {
    const int64_t steps = smaller(k - p, kLanes);
    for (int64_t i = 0; i < width; i += kLanes) {
      Lanes square[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) {
        const Vec v = i + r < count ? load_some(x + (i + r) * stride + p, steps) : Vec::zero();
        __builtin_memcpy(&square[r], &v, sizeof(v));
      }
      transpose(square);
      float* at = out + p * width + i;
      if (steps == kLanes) {
#pragma GCC unroll 16
        for (int q = 0; q < kLanes; ++q)
          __builtin_memcpy(at + q * width, &square[q], sizeof(Lanes));
      } else {
        for (int64_t q = 0; q < steps; ++q)
          __builtin_memcpy(at + q * width, &square[q], sizeof(Lanes));
      }
    }
  }
}

// Panels of `count` inner indices in all where neighbours in memory are neighbours in a panel: row
// by row of the source, so that memory is read in order.
template <class T>
void pack_across_k(const T* x, int64_t stride, int64_t count, int64_t k, int64_t width,
                   int64_t panel_size, float* out) {
  for (int64_t p = 0; p < k; ++p, x += stride, out += width) {
    float* panel = out;
    for (int64_t j = 0; j < count; j += width, panel += panel_size) {
      const int64_t left = smaller(width, count - j);
      for (int64_t i = 0; i < width; i += kLanes) {
        (i < left ? load_some(x + j + i, left - i) : Vec::zero()).store(panel + i);
      }
    }
  }
}

// Packs inner indices [i, i + count) and steps [p, p + k) of K, counted over both parts, into
// panels of `width` that lie panel_size >= k * width apart; the last one also needs kLanes elements
// behind it.
inline void pack(const Sources& sources, int64_t i, int64_t count, int64_t p, int64_t k,
                 int64_t width, int64_t panel_size, float* out) {
  int64_t begin = 0;  // where the part starts in the joined K
  for (const Source& part : sources.part) {
    const int64_t from = larger(p, begin), to = smaller(p + k, begin + part.k);
    if (from < to) {
      float* at = out + (from - p) * width;
      dispatch_float(part.dtype, [&](auto element) {
        using T = decltype(element);
        if (!part.along_k) {
          pack_across_k(part.at<T>(i, from - begin), part.stride, count, to - from, width,
                        panel_size, at);
          return;
        }
        for (int64_t j = 0; j < count; j += width) {
          pack_along_k(part.at<T>(i + j, from - begin), part.stride, smaller(width, count - j),
                       to - from, width, at + j / width * panel_size);
        }
      });
    }
    begin += part.k;
  }
}

}  // namespace tenon::cpu::TENON_ISA
