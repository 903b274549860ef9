// SPDX-License-Identifier: Apache-2.0
// Computes    add, scale, cast, fill and dropout, elementwise.
// Layout      arrays of `count` elements; the output may be an input of the same dtype.
// Work split  16 bytes of the wider dtype a thread; dropout one Philox block (4 elements) a thread,
//             counted from the stream's beginning.
// Numerics    one fp32 operation and one rounding an element; dropout multiplies by 1 / (1 - p),
//             which is rounded to fp32.
// Traffic     each array once: bound by memory.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256;

template <class T>
constexpr int kPack = 16 / sizeof(T);

dim3 blocks_of(int64_t count, int64_t each) { return extent(divide_up(count, kThreads * each)); }

__device__ __forceinline__ int64_t thread_of_grid() {
  return int64_t{blockIdx.x} * kThreads + threadIdx.x;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    add_kernel(const T* a, const T* b, T* y, int64_t count, bool aligned) {
  constexpr int N = kPack<T>;
  const int64_t i = thread_of_grid() * N, left = count - i;
  Floats<N> v = load<N>(a + i, left, aligned);
  const Floats<N> w = load<N>(b + i, left, aligned);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] += w[k];
  store(y + i, v, left, aligned);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    scale_kernel(const T* x, T* y, int64_t count, float factor, bool aligned) {
  constexpr int N = kPack<T>;
  const int64_t i = thread_of_grid() * N, left = count - i;
  Floats<N> v = load<N>(x + i, left, aligned);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] *= factor;
  store(y + i, v, left, aligned);
}

template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    cast_kernel(const From* x, To* y, int64_t count, bool aligned) {
  constexpr int N = 16 / (sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));
  const int64_t i = thread_of_grid() * N, left = count - i;
  store(y + i, load<N>(x + i, left, aligned), left, aligned);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fill_kernel(T* y, int64_t count, float value, bool aligned) {
  constexpr int N = kPack<T>;
  const int64_t i = thread_of_grid() * N, left = count - i;
  Floats<N> v;
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = value;
  store(y + i, v, left, aligned);
}

// x or 0 by the element's word, times factor, plus what is to be added.
__device__ __forceinline__ float dropped(float x, uint32_t word, uint32_t threshold, float factor) {
  return word < threshold ? 0.0f : x * factor;
}

// Thread g has elements [4 g - skip, 4 g - skip + 4): those of one Philox block. `aligned` implies
// that skip is 0.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, const T* add, T* y, int64_t count, uint32_t threshold, float factor,
                   RandomStream random, uint64_t first_block, int skip, bool aligned) {
  const int64_t g = thread_of_grid(), i = 4 * g - skip;
  if (i >= count) return;
  const PhiloxBlock block = philox_block(random, first_block + static_cast<uint64_t>(g));
  if (aligned && i + 4 <= count) {
    Floats<4> v = load<4>(x + i), w;
    if (add != nullptr) w = load<4>(add + i);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      v[k] = dropped(v[k], block.word[k], threshold, factor);
      if (add != nullptr) v[k] += w[k];
    }
    store(y + i, v);
    return;
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (i + k < 0 || i + k >= count) continue;
    float v = dropped(to_float(x[i + k]), block.word[k], threshold, factor);
    if (add != nullptr) v += to_float(add[i + k]);
    y[i + k] = from_float<T>(v);
  }
}

}  // namespace

void add(const AddArgs& args) {
  dispatch_float(args.dtype, [&]<class T>() {
    launch("add", add_kernel<T>, blocks_of(args.count, kPack<T>), kThreads, 0,
           static_cast<const T*>(args.a), static_cast<const T*>(args.b), static_cast<T*>(args.y),
           args.count, aligned_for<kPack<T>, T>(args.a, args.b, args.y));
  });
}

void scale(const ScaleArgs& args) {
  dispatch_float(args.dtype, [&]<class T>() {
    launch("scale", scale_kernel<T>, blocks_of(args.count, kPack<T>), kThreads, 0,
           static_cast<const T*>(args.x), static_cast<T*>(args.y), args.count, args.factor,
           aligned_for<kPack<T>, T>(args.x, args.y));
  });
}

void cast(const CastArgs& args) {
  dispatch_float(args.from, [&]<class From>() {
    dispatch_float(args.to, [&]<class To>() {
      constexpr int N = smaller(kPack<From>, kPack<To>);
      launch("cast", cast_kernel<From, To>, blocks_of(args.count, N), kThreads, 0,
             static_cast<const From*>(args.x), static_cast<To*>(args.y), args.count,
             aligned_for<N, From>(args.x) && aligned_for<N, To>(args.y));
    });
  });
}

void fill(const FillArgs& args) {
  dispatch_float(args.dtype, [&]<class T>() {
    launch("fill", fill_kernel<T>, blocks_of(args.count, kPack<T>), kThreads, 0,
           static_cast<T*>(args.y), args.count, args.value, aligned_for<kPack<T>, T>(args.y));
  });
}

void dropout(const DropoutArgs& args) {
  dispatch_float(args.dtype, [&]<class T>() {
    const int skip = static_cast<int>(args.position0 % 4);
    const int64_t end = args.count == 0 ? 0 : args.count + skip;
    launch("dropout", dropout_kernel<T>, blocks_of(end, 4), kThreads, 0,
           static_cast<const T*>(args.x), static_cast<const T*>(args.add), static_cast<T*>(args.y),
           args.count, dropout_threshold(args.p), 1.0f / (1.0f - args.p), args.random,
           args.position0 / 4, skip, skip == 0 && aligned_for<4, T>(args.x, args.add, args.y));
  });
}

}  // namespace tenon::cuda::TENON_SM
