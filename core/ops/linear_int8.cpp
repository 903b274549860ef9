// SPDX-License-Identifier: Apache-2.0
#include "core/ops/linear_int8.h"

#include <algorithm>

#include "core/backend.h"
#include "core/error.h"
#include "core/ops/launches.h"
#include "core/parallel_for.h"

namespace tenon {
namespace {

// Columns of outliers that are multiplied at a time. What they take is taken in any case: what is
// allocated does not depend on values.
constexpr int64_t kGathered = 32;
// For so few inputs the product of outliers may want more scratch memory than that of the codes: there it
// is run whether there are any or not.
constexpr int64_t kShortK = 4 * kGathered;

// c += the outliers among columns [begin, begin + kGathered) of x.outliers times their columns of W.
void add_outliers(const Int8Rows& x, const Int8Matrix& weight, size_t begin, const Tensor& some_x,
                  const Tensor& some_w, MatmulArgs args) {
  int32_t columns[kGathered];
  for (size_t k = 0; k < kGathered; ++k)
    columns[k] = begin + k < x.outliers.size() ? x.outliers[begin + k] : -1;
  const KernelTable& run = kernels(Device::kCPU);
  run.gather_columns({.x = x.x.raw(),
                      .index = columns,
                      .y = some_x.data<float>(),
                      .rows = x.codes.dim(0),
                      .channels = x.codes.dim(1),
                      .columns = kGathered,
                      .least = kOutlier,
                      .dtype = x.x.dtype()});
  run.gather_columns({.x = weight.codes.raw(),
                      .scales = weight.scales.data<float>(),
                      .index = columns,
                      .y = some_w.data<float>(),
                      .rows = weight.codes.dim(0),
                      .channels = weight.codes.dim(1),
                      .columns = kGathered,
                      .dtype = DType::kI8});
  args.a = operand(some_x, kGathered);
  args.b = operand(some_w, kGathered, true);
  args.k = kGathered;
  args.bias = nullptr;
  args.accumulate = true;
  run.matmul(args);
}

}  // namespace

Int8Rows int8_rows(const Tensor& x) {
  TENON_CHECK(x.device() == Device::kCPU, "[linear] a weight in int8 is computed on CPUs only");
  const int64_t in = x.dim(-1), rows = x.numel() / in;
  Int8Rows result{.x = x};
  result.codes = Tensor::empty({rows, in}, DType::kI8, MemoryKind::kWorkspace);
  result.scales = Tensor::empty({rows}, DType::kF32, MemoryKind::kWorkspace);
  const Tensor flags = Tensor::empty({in}, DType::kU8, MemoryKind::kWorkspace);
  kernels(Device::kCPU)
      .quantize_rows({.x = x.raw(),
                      .codes = result.codes.data<int8_t>(),
                      .scales = result.scales.data<float>(),
                      .outliers = flags.data<uint8_t>(),
                      .rows = rows,
                      .channels = in,
                      .threshold = kOutlier,
                      .dtype = x.dtype()});
  for (int64_t c = 0; chunks_are_run() && c < in; ++c)
    if (flags.data<uint8_t>()[c] != 0) result.outliers.push_back(static_cast<int32_t>(c));
  return result;
}

void int8_product(const Int8Rows& x, const Weight& weight, const float* bias, void* c,
                  int64_t stride, DType dtype) {
  const Int8Matrix& matrix = *weight.int8();
  const int64_t rows = x.codes.dim(0), in = x.codes.dim(1), out = matrix.codes.dim(0);
  const Tensor some_x = Tensor::empty({rows, kGathered}, DType::kF32, MemoryKind::kWorkspace);
  const Tensor some_w = Tensor::empty({out, kGathered}, DType::kF32, MemoryKind::kWorkspace);
  MatmulArgs args = {.a = {.data = x.codes.raw(),
                           .stride = in,
                           .dtype = DType::kI8,
                           .scales = x.scales.data<float>()},
                     .b = weight.operand(true),
                     .c = c,
                     .c_stride = stride,
                     .c_dtype = dtype,
                     .m = rows,
                     .n = out,
                     .k = in,
                     .bias = bias};
  kernels(Device::kCPU).matmul(args);
  const size_t count = std::max(x.outliers.size(), size_t{in < kShortK});
  for (size_t begin = 0; begin < count; begin += kGathered)
    add_outliers(x, matrix, begin, some_x, some_w, args);
}

}  // namespace tenon
