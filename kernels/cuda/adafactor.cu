// SPDX-License-Identifier: Apache-2.0
// Computes    a step of Adafactor (formulas in core/kernel_table.h).
// Layout      a matrix, row by row; or a vector, as one row.
// Work split  a block for each row, a thread for each column's mean; between the three passes over the
//             matrix one block adds what the rows have left.
// Numerics    fp32; sums of squares and of rows in double, by fixed trees; bf16 weights rounded
//             stochastically.
// Traffic     reads the gradient four times and the weights twice, writes the weights.
#include "core/device.h"
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/step.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256;
constexpr int kSumSlot = 0;  // of device_scratch

// What passes leave for the next. Sums of rows are (rows).
struct Left {
  double *weight_squares, *update_squares;
  float* scalars;  // the inverse of the rows' mean, and the rate
};
enum Scalar { kInverseMean, kRate };

// Runs body(j) for the columns of this block's row that are this thread's.
template <class Body>
__device__ __forceinline__ void for_columns(const AdafactorArgs& a, const Body& body) {
  for (int64_t j = threadIdx.x; j < a.columns; j += kThreads) body(j);
}

template <class T>
__global__ void __launch_bounds__(kThreads) measure_rows_kernel(AdafactorArgs a, Left left) {
  if (nothing_to_do(a.scale)) return;
  const int64_t row = blockIdx.x;
  const float factor = factor_of(a.scale);
  double squares = 0, weight_squares = 0;
  for_columns(a, [&](int64_t j) {
    const float g = a.grad[row * a.columns + j] * factor;
    const float w = to_float(static_cast<const T*>(a.weight)[row * a.columns + j]);
    squares += static_cast<double>(g) * static_cast<double>(g);
    weight_squares += static_cast<double>(w) * static_cast<double>(w);
  });
  squares = block_sum(squares);
  weight_squares = block_sum(weight_squares);
  if (threadIdx.x != 0) return;
  left.weight_squares[row] = weight_squares;
  if (a.v != nullptr) return;
  const auto mean = static_cast<float>(squares / static_cast<double>(a.columns));
  a.row[row] += a.fresh * (mean - a.row[row]);
}

__global__ void __launch_bounds__(kThreads) measure_columns_kernel(AdafactorArgs a) {
  const int64_t j = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (nothing_to_do(a.scale) || j >= a.columns) return;
  const float factor = factor_of(a.scale);
  double squares = 0;
  for (int64_t row = 0; row < a.rows; ++row) {
    const float g = a.grad[row * a.columns + j] * factor;
    squares += static_cast<double>(g) * static_cast<double>(g);
  }
  float& kept = (a.v != nullptr ? a.v : a.column)[j];
  kept += a.fresh * (static_cast<float>(squares / static_cast<double>(a.rows)) - kept);
}

__global__ void __launch_bounds__(kThreads) join_rows_kernel(AdafactorArgs a, Left left) {
  if (nothing_to_do(a.scale) || a.v != nullptr) return;
  double sum = 0;
  for (int64_t row = threadIdx.x; row < a.rows; row += kThreads)
    sum += static_cast<double>(a.row[row]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    const auto mean = static_cast<float>(sum / static_cast<double>(a.rows));
    left.scalars[kInverseMean] = 1.0f / fmaxf(mean, a.least_mean);
  }
}

// u of the element in column j of this block's row.
__device__ __forceinline__ float update_of(const AdafactorArgs& a, const Left& left, float factor,
                                           int64_t j) {
  const int64_t row = blockIdx.x;
  const float variance =
      a.v != nullptr ? a.v[j] : a.column[j] * (a.row[row] * left.scalars[kInverseMean]);
  return a.grad[row * a.columns + j] * factor / sqrtf(fmaxf(variance, a.least_variance));
}

__global__ void __launch_bounds__(kThreads) update_squares_kernel(AdafactorArgs a, Left left) {
  if (nothing_to_do(a.scale)) return;
  const float factor = factor_of(a.scale);
  double squares = 0;
  for_columns(a, [&](int64_t j) {
    const float u = update_of(a, left, factor, j);
    squares += static_cast<double>(u) * static_cast<double>(u);
  });
  squares = block_sum(squares);
  if (threadIdx.x == 0) left.update_squares[blockIdx.x] = squares;
}

__global__ void __launch_bounds__(kThreads) rate_kernel(AdafactorArgs a, Left left) {
  if (nothing_to_do(a.scale)) return;
  double squares = 0, weight_squares = 0;
  for (int64_t row = threadIdx.x; row < a.rows; row += kThreads) {
    squares += left.update_squares[row];
    weight_squares += left.weight_squares[row];
  }
  squares = block_sum(squares);
  weight_squares = block_sum(weight_squares);
  if (threadIdx.x != 0) return;
  const double count = static_cast<double>(a.rows) * static_cast<double>(a.columns);
  const double rms = sqrt(squares / count) / static_cast<double>(a.most_rms);
  const double size = sqrt(weight_squares / count), least = static_cast<double>(a.least_scale);
  left.scalars[kRate] = static_cast<float>(static_cast<double>(a.rate) *
                                           (size > least ? size : least) / (rms > 1 ? rms : 1));
}

__device__ __forceinline__ float rounded(const AdafactorArgs& a, float w, int64_t i) {
  if (a.dtype == DType::kF32) return w;
  Rounding stream = a.rounding;
  stream.purpose += a.number;
  return round_to(a.dtype, w, philox_word(stream, static_cast<uint64_t>(i)));
}

template <class T>
__global__ void __launch_bounds__(kThreads) update_kernel(AdafactorArgs a, Left left) {
  if (nothing_to_do(a.scale)) return;
  const float factor = factor_of(a.scale), rate = left.scalars[kRate];
  const float decay = a.lr * a.weight_decay;
  for_columns(a, [&](int64_t j) {
    const int64_t i = int64_t{blockIdx.x} * a.columns + j;
    T& weight = static_cast<T*>(a.weight)[i];
    const float w = to_float(weight);
    const float stepped = fmaf(-rate, update_of(a, left, factor, j), fmaf(-decay, w, w));
    weight = from_float<T>(rounded(a, stepped, i));
  });
}

}  // namespace

void adafactor(const AdafactorArgs& a) {
  if (a.rows * a.columns == 0) return;
  auto* sums = static_cast<double*>(device_scratch(kSumSlot, (2 * a.rows + 1) * 8));
  const Left left = {sums, sums + a.rows, reinterpret_cast<float*>(sums + 2 * a.rows)};
  const dim3 rows = extent(a.rows), one = extent(1);
  dispatch_float(a.dtype, [&]<class T>() {
    launch("adafactor", measure_rows_kernel<T>, rows, kThreads, 0, a, left);
  });
  launch("adafactor", measure_columns_kernel, extent(divide_up(a.columns, kThreads)), kThreads, 0,
         a);
  launch("adafactor", join_rows_kernel, one, kThreads, 0, a, left);
  launch("adafactor", update_squares_kernel, rows, kThreads, 0, a, left);
  launch("adafactor", rate_kernel, one, kThreads, 0, a, left);
  dispatch_float(a.dtype, [&]<class T>() {
    launch("adafactor", update_kernel<T>, rows, kThreads, 0, a, left);
  });
}

}  // namespace tenon::cuda::TENON_SM
