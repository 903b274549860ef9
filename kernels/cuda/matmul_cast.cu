// SPDX-License-Identifier: Apache-2.0
// Computes    y = x in another dtype, for operands of products: cuBLASLt wants both of one.
// Layout      x: rows `stride` apart; y: rows a multiple of 16 bytes apart.
// Work split  a thread makes 8 elements of a row; a block 1024 of them, blocks go down the rows.
// Numerics    rounded to nearest even.
// Traffic     reads and writes each element once: bound by memory.
#include "core/device.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 128, kRun = 8;
constexpr int64_t kMostBlockRows = 32768;  // a grid's y extent is below 65536

template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    cast_rows_kernel(const From* x,  // (rows, columns), rows x_stride apart
                     To* y,          // (rows, columns), rows y_stride apart
                     int64_t rows, int64_t columns, int64_t x_stride, int64_t y_stride,
                     bool x_aligned) {
  const int64_t column = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kRun;
  const int64_t left = columns - column;
  if (left <= 0) return;
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const Floats<kRun> run = load<kRun>(x + row * x_stride + column, left, x_aligned);
    store(y + row * y_stride + column, run, left, true);
  }
}

// Casts `rows` stored rows of `columns` into y.
void cast_rows(const void* x, DType from, int64_t rows, int64_t columns, int64_t x_stride, void* y,
               DType to, int64_t y_stride) {
  dispatch_float(from, [&]<class From>() {
    dispatch_float(to, [&]<class To>() {
      const auto* data = static_cast<const From*>(x);
      const bool aligned = aligned_for<kRun, From>(data, data + x_stride);
      launch("matmul_cast", cast_rows_kernel<From, To>,
             extent(divide_up(columns, kThreads * kRun), smaller(rows, kMostBlockRows)), kThreads,
             0, data, static_cast<To*>(y), rows, columns, x_stride, y_stride, aligned);
    });
  });
}

}  // namespace

MatrixOperand cast_operand(const MatrixOperand& x, int64_t rows, int64_t columns, DType type,
                           MatmulSlot slot) {
  if (x.dtype == type) return x;
  const int64_t stored_rows = x.transposed ? columns : rows;
  const int64_t stored_columns = x.transposed ? rows : columns;
  const int64_t stride = divide_up(stored_columns, kRun) * kRun;
  void* y = device_scratch(slot, stored_rows * stride * size_of(type));
  cast_rows(x.data, x.dtype, stored_rows, stored_columns, x.stride, y, type, stride);
  return {.data = y, .stride = stride, .transposed = x.transposed, .dtype = type};
}

const void* cast_bias(const float* bias, int64_t count, DType type) {
  if (bias == nullptr || (type == DType::kF32 && alignment_of(bias) >= 16)) return bias;
  void* y = device_scratch(kCastBias, count * size_of(type));
  cast_rows(bias, DType::kF32, 1, count, count, y, type, count);
  return y;
}

}  // namespace tenon::cuda::TENON_SM
