// SPDX-License-Identifier: Apache-2.0
#include "models/dora.h"

#include <algorithm>
#include <cmath>

#include "core/backend.h"
#include "core/parallel_for.h"

namespace tenon {
namespace {

// A product in fp32, whatever dtype the operands have: c = op(a) op(b), all contiguous.
Tensor product_of(const MatrixOperand& a, const MatrixOperand& b, int64_t m, int64_t n, int64_t k) {
  Tensor c = Tensor::empty({m, n}, DType::kF32, MemoryKind::kWorkspace);
  kernels(Device::kCPU)
      .matmul({.a = a, .b = b, .c = c.raw(), .c_stride = n, .m = m, .n = n, .k = k});
  return c;
}

MatrixOperand as_is(const Tensor& matrix, bool transposed = false) {
  return {.data = matrix.raw(),
          .stride = matrix.dim(1),
          .transposed = transposed,
          .dtype = matrix.dtype()};
}

// The squared length of each output's row of the weight, summed in double a few stored rows at a
// time.
std::vector<double> row_squares(const Linear& linear) {
  constexpr int64_t kRows = 64;
  const Weight weight = linear.weight.weight();
  const int64_t rows = weight.dim(0), columns = weight.dim(1);
  const bool out_in = linear.layout == WeightLayout::kOutIn;
  std::vector<double> squares(static_cast<size_t>(linear.out()), 0);
  for (int64_t begin = 0; begin < rows; begin += kRows) {
    const int64_t end = std::min(rows, begin + kRows);
    const Tensor part = weight.rows(begin, end);
    if (!chunks_are_run()) continue;
    const float* at = part.data<float>();
    for (int64_t r = begin; r < end; ++r, at += columns) {
      for (int64_t c = 0; c < columns; ++c) {
        const auto value = static_cast<double>(at[c]);
        squares[static_cast<size_t>(out_in ? r : c)] += value * value;
      }
    }
  }
  return squares;
}

}  // namespace

// |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b for a row w of W and its row b of B: next to
// the lengths of W, which is frozen, three narrow products, and no copy of W.
void update_norms(Linear& linear) {
  Lora& lora = *linear.lora;
  Dora& dora = *lora.dora;
  if (dora.squares.empty()) dora.squares = row_squares(linear);
  const Tensor &a = lora.a.value, &b = lora.b.value;
  const int64_t rank = a.dim(0), in = linear.in(), out = linear.out();
  const Weight weight = linear.weight.weight();
  const Tensor wa = product_of(weight.operand(linear.layout == WeightLayout::kInOut),
                               as_is(a, true), out, rank, in);             // (out, R)
  const Tensor aa = product_of(as_is(a), as_is(a, true), rank, rank, in);  // (R, R)
  const Tensor baa = product_of(as_is(b), as_is(aa), out, rank, rank);     // (out, R)
  dora.norms = Tensor::empty({out}, DType::kF32, MemoryKind::kWeights);
  const auto scale = static_cast<double>(lora.scale);
  for (int64_t o = 0; o < out; ++o) {
    double cross = 0, change = 0;
    for (int64_t r = 0; r < rank; ++r) {
      const auto factor = static_cast<double>(b.data<float>()[o * rank + r]);
      cross += factor * static_cast<double>(wa.data<float>()[o * rank + r]);
      change += factor * static_cast<double>(baa.data<float>()[o * rank + r]);
    }
    const double square =
        dora.squares[static_cast<size_t>(o)] + scale * (2 * cross + scale * change);
    dora.norms.data<float>()[o] = static_cast<float>(std::sqrt(std::max(0.0, square)));
  }
}

void update_norms(Model& model) {
  model.visit_linears([](const std::string&, Linear& linear) {
    if (linear.lora && linear.lora->dora) update_norms(linear);
  });
}

}  // namespace tenon
