// SPDX-License-Identifier: Apache-2.0
// Computes    rows in int8 with a scale for each, but for their outliers; and single columns as fp32.
// Layout      rows of C contiguous elements.
// Work split  a block a row, twice over it; columns a thread an element.
// Numerics    codes are rounded to nearest even.
// Traffic     a row once from memory: its second pass finds it in the cache.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) clear_kernel(uint8_t* outliers, int64_t channels) {
  const int64_t c = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (c < channels) outliers[c] = 0;
}

// As fp16 holds it.
__device__ __forceinline__ float half_of(float x) { return to_float(from_float<f16>(x)); }

template <class T>
__global__ void __launch_bounds__(kThreads) quantize_rows_kernel(QuantizeRowsArgs a) {
  const int64_t row = blockIdx.x;
  const T* x = static_cast<const T*>(a.x) + row * a.channels;
  float most = 0;
  for (int64_t c = threadIdx.x; c < a.channels; c += kThreads) {
    const float size = fabsf(to_float(x[c]));
    if (size < a.threshold) {
      most = fmaxf(most, half_of(size));
    } else {
      a.outliers[c] = 1;  // other rows may say the same at once
    }
  }
  most = block_max(most);
  const float inverse = most > 0 ? 127.0f / most : 0.0f;
  if (threadIdx.x == 0) a.scales[row] = most / 127.0f;
  for (int64_t c = threadIdx.x; c < a.channels; c += kThreads) {
    const float v = to_float(x[c]);
    const float inside = fabsf(v) < a.threshold ? half_of(v) : 0.0f;
    a.codes[row * a.channels + c] = static_cast<int8_t>(rintf(inside * inverse));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) gather_columns_kernel(GatherColumnsArgs a) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.rows * a.columns) return;
  const int64_t row = i / a.columns;
  const int32_t column = a.index[i % a.columns];
  float number = 0;
  if (column >= 0) {
    const T x = static_cast<const T*>(a.x)[row * a.channels + column];
    if constexpr (sizeof(T) == 1) {
      number = static_cast<float>(x);
    } else {
      number = to_float(x);
    }
  }
  if (fabsf(number) < a.least) number = 0;
  a.y[i] = number * (a.scales == nullptr ? 1.0f : a.scales[row]);
}

}  // namespace

void quantize_rows(const QuantizeRowsArgs& a) {
  if (a.channels == 0) return;
  launch("quantize_rows", clear_kernel, extent(divide_up(a.channels, int64_t{kThreads})), kThreads,
         0, a.outliers, a.channels);
  if (a.rows == 0) return;
  dispatch_float(a.dtype, [&]<class T>() {
    launch("quantize_rows", quantize_rows_kernel<T>, extent(a.rows), kThreads, 0, a);
  });
}

void gather_columns(const GatherColumnsArgs& a) {
  if (a.rows * a.columns == 0) return;
  const dim3 blocks = extent(divide_up(a.rows * a.columns, int64_t{kThreads}));
  if (a.dtype == DType::kI8)
    return launch("gather_columns", gather_columns_kernel<int8_t>, blocks, kThreads, 0, a);
  dispatch_float(a.dtype, [&]<class T>() {
    launch("gather_columns", gather_columns_kernel<T>, blocks, kThreads, 0, a);
  });
}

}  // namespace tenon::cuda::TENON_SM
