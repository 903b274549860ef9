// SPDX-License-Identifier: Apache-2.0
// Rearranging the lanes of vectors, for what packs matrices.
#pragma once

#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

template <int... kIndex>
struct Indices {};
template <int kCount, int... kIndex>
struct MakeIndices : MakeIndices<kCount - 1, kCount - 1, kIndex...> {};
template <int... kIndex>
struct MakeIndices<0, kIndex...> {
  using Type = Indices<kIndex...>;
};

using AllLanes = typename MakeIndices<kLanes>::Type;

using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;

inline Lanes lanes_of(Vec v) {
  Lanes x;
  __builtin_memcpy(&x, &v, sizeof(x));
  return x;
}

// a0 b0 a1 b1 ... from the lower (kFrom = 0) or the upper (kFrom = kLanes / 2) halves of a and b.
template <int kFrom, int... kIndex>
Lanes zip(Lanes a, Lanes b, Indices<kIndex...>) {
  return __builtin_shufflevector(a, b, (kFrom + kIndex / 2 + kIndex % 2 * kLanes)...);
}

// What zip() makes of two vectors, undone: lanes 0, 2, 4, ... (kFrom = 0) or 1, 3, 5, ... of a, then
// those of b.
template <int kFrom, int... kIndex>
Lanes unzip(Lanes a, Lanes b, Indices<kIndex...>) {
  return __builtin_shufflevector(a, b, (kFrom + 2 * kIndex)...);
}

// Transposes a square of kLanes x kLanes: log2(kLanes) rounds of zipping row i with row i + kLanes
// / 2.
inline void transpose(Lanes (&x)[kLanes]) {
  constexpr int kHalf = kLanes / 2;
#pragma GCC unroll 4
  for (int round = 1; round < kLanes; round *= 2) {
    Lanes y[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kHalf; ++i) {
      y[2 * i] = zip<0>(x[i], x[i + kHalf], AllLanes());
      y[2 * i + 1] = zip<kHalf>(x[i], x[i + kHalf], AllLanes());
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

}  // namespace tenon::cpu::TENON_ISA
