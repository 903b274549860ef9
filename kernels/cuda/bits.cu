// SPDX-License-Identifier: Apache-2.0
// Computes    a bit for each element, whether it is positive; and elements where such a bit is set.
// Layout      arrays of `count` elements, bits 8 a byte, the first in the lowest.
// Work split  8 elements, hence a byte, a thread.
// Numerics    a comparison and a choice: exact.
// Traffic     each array once: bound by memory.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256;

dim3 blocks_of(int64_t count) { return extent(divide_up(count, int64_t{kThreads} * 8)); }

template <class T>
__global__ void __launch_bounds__(kThreads)
    positive_bits_kernel(const T* x, uint8_t* bits, int64_t count) {
  const int64_t byte = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (byte * 8 >= count) return;
  unsigned set = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int64_t i = byte * 8 + k;
    if (i < count && to_float(x[i]) > 0) set |= 1u << k;
  }
  bits[byte] = static_cast<uint8_t>(set);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    select_bits_kernel(const T* x, const uint8_t* bits, T* y, int64_t count) {
  const int64_t byte = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (byte * 8 >= count) return;
  const unsigned set = bits[byte];
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int64_t i = byte * 8 + k;
    if (i < count) y[i] = (set >> k & 1) != 0 ? x[i] : from_float<T>(0.0f);
  }
}

}  // namespace

void positive_bits(const PositiveBitsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    launch("positive_bits", positive_bits_kernel<T>, blocks_of(a.count), kThreads, 0,
           static_cast<const T*>(a.x), a.bits, a.count);
  });
}

void select_bits(const SelectBitsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    launch("select_bits", select_bits_kernel<T>, blocks_of(a.count), kThreads, 0,
           static_cast<const T*>(a.x), a.bits, static_cast<T*>(a.y), a.count);
  });
}

}  // namespace tenon::cuda::TENON_SM
