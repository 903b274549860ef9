// SPDX-License-Identifier: Apache-2.0
// Computes    y1 = x1 cos - x2 sin and y2 = x2 cos + x1 sin, where x1 and x2 are the halves of the
//             first `rotary` elements of a head; the sine has the other sign for the inverse.
// Layout      tokens of H heads of D contiguous elements; tables of fp32 rows of rotary / 2.
// Work split  a token a grid row, 4 pairs a thread.
// Numerics    fp32, rounded once on store.
// Traffic     reads and writes each element once; a token's row of the tables stays in the cache.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kPack = 4, kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads) rotary_kernel(RotaryArgs a, bool aligned) {
  const int64_t half = a.rotary / 2, packs = divide_up(half, kPack);  // a head's
  const int64_t pack = int64_t{blockIdx.y} * kThreads + threadIdx.x, head = pack / packs;
  if (head >= a.heads) return;
  const int64_t t = blockIdx.x, i = pack % packs * kPack, left = half - i;
  const int64_t row = (a.positions != nullptr ? a.positions[t] : t % a.sequence) * half;
  const Floats<kPack> c = load<kPack>(a.cosines + row + i, left, aligned),
                      s = load<kPack>(a.sines + row + i, left, aligned);
  T* x1 = static_cast<T*>(a.x) + t * a.stride + head * a.head_size + i;
  T* x2 = x1 + half;
  Floats<kPack> v1 = load<kPack>(x1, left, aligned), v2 = load<kPack>(x2, left, aligned);
#pragma unroll
  for (int k = 0; k < kPack; ++k) {
    const float first = v1[k], second = v2[k], sine = a.inverse ? -s[k] : s[k];
    v1[k] = fmaf(-second, sine, first * c[k]);
    v2[k] = fmaf(first, sine, second * c[k]);
  }
  store(x1, v1, left, aligned);
  store(x2, v2, left, aligned);
}

}  // namespace

void rotary(const RotaryArgs& a) {
  const int64_t half = a.rotary / 2;
  dispatch_float(a.dtype, [&]<class T>() {
    const bool aligned = half % kPack == 0 && a.head_size % kPack == 0 && a.stride % kPack == 0 &&
                         aligned_for<kPack, T>(a.x) &&
                         aligned_for<kPack, float>(a.cosines, a.sines);
    const int64_t threads = a.heads * divide_up(half, kPack);
    launch("rotary", rotary_kernel<T>, extent(a.tokens, divide_up(threads, kThreads)), kThreads, 0,
           a, aligned);
  });
}

}  // namespace tenon::cuda::TENON_SM
