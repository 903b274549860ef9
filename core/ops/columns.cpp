// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/launches.h"
#include "core/parallel_for.h"

namespace tenon {
namespace {

// Columns of one piece of work: sums over rows stay in one piece, in the order of the rows.
constexpr int64_t kColumns = 64;

struct Columns {
  const float* x;          // (rows, C)
  const float* magnitude;  // (C)
  const float* norms;      // (C)
  int64_t rows, channels;

  float factor(int64_t c) const { return norms[c] > 0 ? magnitude[c] / norms[c] : 0; }
};

struct ForwardJob {
  Columns in;
  const float* bias;  // (C) or null
  float* y;           // (rows, C)
};

void forward_piece(void* context, int64_t piece) {
  const ForwardJob& f = *static_cast<const ForwardJob*>(context);
  const Columns& in = f.in;
  const int64_t begin = piece * kColumns, width = std::min(kColumns, in.channels - begin);
  float factor[kColumns], bias[kColumns] = {};
  for (int64_t i = 0; i < width; ++i) {
    factor[i] = in.factor(begin + i);
    if (f.bias != nullptr) bias[i] = f.bias[begin + i];
  }
  for (int64_t r = 0; r < in.rows; ++r) {
    const float* x = in.x + r * in.channels + begin;
    float* y = f.y + r * in.channels + begin;
    for (int64_t i = 0; i < width; ++i) y[i] = x[i] * factor[i] + bias[i];
  }
}

struct BackwardJob {
  Columns in;       // its x is null where the magnitude's gradient is not wanted
  const float* dy;  // (rows, C)
  float* dx;        // (rows, C)
  float* dmagnitude;
  float* dbias;
};

// dx = dy m / n; dm += sum of dy x / n; dbias += sum of dy. Sums are kept in double.
void backward_piece(void* context, int64_t piece) {
  const BackwardJob& b = *static_cast<const BackwardJob*>(context);
  const Columns& in = b.in;
  const int64_t begin = piece * kColumns, width = std::min(kColumns, in.channels - begin);
  float factor[kColumns];
  double products[kColumns] = {}, sums[kColumns] = {};
  for (int64_t i = 0; i < width; ++i) factor[i] = in.factor(begin + i);
  for (int64_t r = 0; r < in.rows; ++r) {
    const int64_t at = r * in.channels + begin;
    for (int64_t i = 0; i < width; ++i) {
      const float dy = b.dy[at + i];
      b.dx[at + i] = dy * factor[i];
      sums[i] += static_cast<double>(dy);
      if (b.dmagnitude != nullptr)
        products[i] += static_cast<double>(dy) * static_cast<double>(in.x[at + i]);
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    const float norm = in.norms[begin + i];
    if (b.dmagnitude != nullptr && norm > 0)
      b.dmagnitude[begin + i] += static_cast<float>(products[i] / static_cast<double>(norm));
    if (b.dbias != nullptr) b.dbias[begin + i] += static_cast<float>(sums[i]);
  }
}

// Copies (rows, columns) between rows that lie some elements apart.
void copy_columns(const Tensor& from, int64_t from_column, const Tensor& to, int64_t to_column,
                  int64_t columns) {
  kernels(from.device())
      .copy_rows({.x = at(from, from_column),
                  .y = at(to, to_column),
                  .rows = from.numel() / from.dim(-1),
                  .channels = columns,
                  .x_stride = from.dim(-1),
                  .y_stride = to.dim(-1),
                  .dtype = from.dtype()});
}

int64_t pieces(int64_t channels) { return (channels + kColumns - 1) / kColumns; }

}  // namespace

Tensor scale_columns(const Tensor& x, const Tensor& magnitude, const Tensor& norms,
                     const Tensor& bias) {
  const int64_t channels = x.dim(-1), rows = x.numel() / channels;
  for (const Tensor* vector : {&magnitude, &norms, &bias}) {
    if (vector == &bias && !bias.defined()) continue;
    TENON_CHECK(vector->numel() == channels && vector->dtype() == DType::kF32,
                "[scale_columns] a vector of {} of {} for {} columns; it is fp32", vector->numel(),
                name_of(vector->dtype()), channels);
  }
  TENON_CHECK(x.device() == Device::kCPU, "[scale_columns] runs on the CPU only");
  const Tensor wide = cast(x.detach(), DType::kF32);
  Tensor out = Tensor::empty(x.shape(), DType::kF32);  // (..., C)
  ForwardJob forward{
      {wide.data<float>(), magnitude.data<float>(), norms.data<float>(), rows, channels},
      bias.data<float>(),
      out.data<float>()};
  parallel_for(pieces(channels), forward_piece, &forward);
  Tensor y = cast(out, x.dtype());

  const Tensor kept = recording({&magnitude}) ? x.detach() : Tensor{};
  record("scale_columns", {x, magnitude, bias}, {&y},
         [=, magnitude = magnitude.detach(), norms = norms.detach(), dtype = x.dtype()](
             const std::vector<Tensor>& douts, Grads& grads) {
           const Tensor dy = cast(douts[0], DType::kF32);
           const Tensor dx = Tensor::empty(dy.shape(), DType::kF32);
           const Tensor dm = grads.sink(1);
           const Tensor z = dm.defined() ? cast(kept, DType::kF32) : Tensor{};
           BackwardJob backward{
               {z.data<float>(), magnitude.data<float>(), norms.data<float>(), rows, channels},
               dy.data<float>(),
               dx.data<float>(),
               dm.data<float>(),
               grads.sink(2).data<float>()};
           parallel_for(pieces(channels), backward_piece, &backward);
           grads.add(0, cast(dx, dtype));
         });
  return y;
}

Tensor side_by_side(const std::vector<Tensor>& parts) {
  int64_t width = 0;
  for (const Tensor& part : parts) width += part.dim(-1);
  const Tensor& first = parts.front();
  Tensor y = Tensor::empty(with_channels(first.shape(), width), first.dtype(), first.device());
  int64_t column = 0;
  for (const Tensor& part : parts) {
    TENON_CHECK(part.numel() / part.dim(-1) == y.numel() / width && part.dtype() == y.dtype(),
                "[side_by_side] {} beside {}", part.shape().text(), first.shape().text());
    copy_columns(part, 0, y, column, part.dim(-1));
    column += part.dim(-1);
  }
  std::vector<Shape> shapes;
  for (const Tensor& part : parts) shapes.push_back(part.shape());
  record("side_by_side", parts, {&y},
         [shapes = std::move(shapes)](const std::vector<Tensor>& douts, Grads& grads) {
           int64_t begin = 0;
           for (size_t i = 0; i < shapes.size(); ++i) {
             const int64_t columns = shapes[i][-1];
             if (grads.wants(i)) {
               const Tensor part = Tensor::empty(shapes[i], douts[0].dtype(), douts[0].device());
               copy_columns(douts[0], begin, part, 0, columns);
               grads.add(i, part);
             }
             begin += columns;
           }
         });
  return y;
}

}  // namespace tenon
