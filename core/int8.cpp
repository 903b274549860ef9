// SPDX-License-Identifier: Apache-2.0
#include "core/int8.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/backend.h"
#include "core/error.h"
#include "core/finite.h"
#include "core/for_pieces.h"

namespace tenon {
namespace {

constexpr int kRowSlot = 7;

// x as fp16 holds it; `half` is as long.
void round_to_half(float* x, int64_t count, std::byte* half) {
  const KernelTable& run = kernels(Device::kCPU);
  run.cast({.x = x, .y = half, .count = count, .from = DType::kF32, .to = DType::kF16});
  run.cast({.x = half, .y = x, .count = count, .from = DType::kF16, .to = DType::kF32});
}

// Returns the largest magnitude.
float encode_row(const float* x, int64_t count, int8_t* codes) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float inverse =
      largest == 0 ? 0 : 1.0f / largest * 127.0f;  // so PyTorch rounds 127 / largest
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  return largest;
}

}  // namespace

Tensor Int8Matrix::rows(int64_t begin, int64_t end) const {
  const int64_t columns = codes.dim(1);
  Tensor out = Tensor::empty({end - begin, columns}, DType::kF32, MemoryKind::kWorkspace);
  if (!chunks_are_run()) return out;
  float* to = out.data<float>();
  for (int64_t r = begin; r < end; ++r) {
    const int8_t* code = codes.data<int8_t>() + r * columns;
    const float scale = scales.data<float>()[r];
    for (int64_t c = 0; c < columns; ++c) *to++ = static_cast<float>(code[c]) * scale;
  }
  return out;
}

Int8Matrix unfilled_int8(const Shape& shape) {
  return {.codes = Tensor::empty(shape, DType::kI8, MemoryKind::kWeights),
          .largest = Tensor::empty({shape[0]}, DType::kF32, MemoryKind::kWeights)};
}

Tensor int8_scales(const Tensor& largest) {
  Tensor scales = Tensor::empty(largest.shape(), DType::kF32, MemoryKind::kWeights);
  kernels(Device::kCPU)
      .scale({.x = largest.raw(),
              .y = scales.raw(),
              .count = largest.numel(),
              .factor = static_cast<float>(1.0 / 127)});
  return scales;
}

Int8Matrix quantize_int8(const Shape& shape, const ElementReader& read, const std::string& where) {
  Int8Matrix m = unfilled_int8(shape);
  const int64_t rows = shape[0], columns = shape[1];
  std::atomic<int64_t> broken = shape.numel();  // the first element that is not finite
  const int64_t bytes = columns * (4 + size_of(DType::kF16));
  reserve_scratch(kRowSlot, bytes);
  for_pieces(rows, 1, [&](int64_t row, int64_t) {
    auto* x = static_cast<float*>(thread_scratch(kRowSlot, bytes));
    read(row * columns, columns, x);
    round_to_half(x, columns, reinterpret_cast<std::byte*>(x + columns));
    if (const int64_t at = first_not_finite(x, columns, DType::kF32); at >= 0)
      return keep_least(broken, row * columns + at);
    m.largest.data<float>()[row] = encode_row(x, columns, m.codes.data<int8_t>() + row * columns);
  });
  if (const int64_t at = broken; at < shape.numel()) {
    float wrong;
    read(at, 1, &wrong);
    fail(Exit::kNumeric, "{}: element {} is {}, which int8 by way of fp16 cannot hold", where, at,
         wrong);
  }
  m.scales = int8_scales(m.largest);
  return m;
}

}  // namespace tenon
