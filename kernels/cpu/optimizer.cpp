// SPDX-License-Identifier: Apache-2.0
// Computes    sums of squares, and a step of AdamW or SGD (formulas in core/kernel_table.h).
// Layout      lists of flat fp32 arrays.
// Work split  8 pieces at a time, of 4096 elements of one tensor of the list; the sums of squares
//             of pieces are added in order.
// Numerics    steps in fp32; sums of squares in double, where the square of a float is exact.
// Traffic     AdamW reads 4 and writes 3 floats an element: bound by memory.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kSums = 16;  // independent sums within a piece, which the compiler vectorises

double sum_of_squares(const float* x, int64_t count) {
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    for (int64_t s = 0; s < kSums; ++s)
      sums[s] += static_cast<double>(x[i + s]) * static_cast<double>(x[i + s]);
  }
  for (; i < count; ++i) sums[i % kSums] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double total = 0;
  for (double sum : sums) total += sum;
  return total;
}

// The last tensor that begins at or before a piece.
const OptimizerTensor& tensor_of(const OptimizerList& list, int64_t piece) {
  int64_t low = 0, high = list.count;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (list.tensors[middle].first_piece <= piece ? low : high) = middle;
  }
  return list.tensors[low];
}

// Calls body(tensor, begin, end, piece) for every piece of the list, 8 at a time.
template <class Body>
void for_pieces(const OptimizerList& list, const Body& body) {
  for_ranges(list.pieces, 8, [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece) {
      const OptimizerTensor& tensor = tensor_of(list, piece);
      const int64_t begin = (piece - tensor.first_piece) * kOptimizerPiece;
      body(tensor, begin, smaller(begin + kOptimizerPiece, tensor.count), piece);
    }
  });
}

// The factor of GradientScale; false when nothing is to be written.
bool factor_of(const GradientScale& scale, float* factor) {
  double result = scale.unscale;
  if (scale.sum_squares != nullptr) {
    const double squares = *scale.sum_squares;
    if (!__builtin_isfinite(squares)) return false;
    const double limit = scale.max_norm / (__builtin_sqrt(squares) * scale.unscale + 1e-6);
    if (scale.max_norm > 0 && limit < 1) result *= limit;
  }
  *factor = static_cast<float>(result);
  return true;
}

}  // namespace

void sum_squares(const SumSquaresArgs& a) {
  double* sums = static_cast<double*>(thread_scratch(kPartialSlot, a.list.pieces * 8));
  for_pieces(a.list, [&](const OptimizerTensor& t, int64_t begin, int64_t end, int64_t piece) {
    sums[piece] = sum_of_squares(t.grad + begin, end - begin);
  });
  double total = 0;
  for (int64_t p = 0; p < a.list.pieces; ++p) total += sums[p];
  *a.out = total;
}

void adamw(const AdamWArgs& a) {
  float factor = 0;
  if (!factor_of(a.scale, &factor)) return;
  const Vec grad_scale = Vec::all(factor), beta1 = Vec::all(a.beta1), beta2 = Vec::all(a.beta2);
  const Vec rest1 = Vec::all(1.0f - a.beta1), rest2 = Vec::all(1.0f - a.beta2);
  const Vec rate = Vec::all(a.lr / a.correction1),
            root = Vec::all(1.0f / __builtin_sqrtf(a.correction2));
  const Vec eps = Vec::all(a.eps);
  for_pieces(a.list, [&](const OptimizerTensor& t, int64_t begin, int64_t end, int64_t) {
    const Vec decay = Vec::all(a.lr * t.weight_decay);
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t left = end - i;
      const Vec g = Vec::load(t.grad + i, left) * grad_scale;
      const Vec m = fma(beta1, Vec::load(t.m + i, left), rest1 * g);
      const Vec v = fma(beta2, Vec::load(t.v + i, left), rest2 * g * g);
      Vec w = Vec::load(t.weight + i, left);
      w = fnma(decay, w, w);
      w = w - rate * m / fma(sqrt(v), root, eps);
      m.store(t.m + i, left);
      v.store(t.v + i, left);
      w.store(t.weight + i, left);
    }
  });
}

void sgd(const SgdArgs& a) {
  float factor = 0;
  if (!factor_of(a.scale, &factor)) return;
  const Vec grad_scale = Vec::all(factor), momentum = Vec::all(a.momentum), lr = Vec::all(a.lr);
  for_pieces(a.list, [&](const OptimizerTensor& t, int64_t begin, int64_t end, int64_t) {
    const Vec decay = Vec::all(t.weight_decay);
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t left = end - i;
      const Vec w = Vec::load(t.weight + i, left);
      Vec g = fma(decay, w, Vec::load(t.grad + i, left) * grad_scale);
      if (t.m != nullptr) {
        g = fma(momentum, Vec::load(t.m + i, left), g);
        g.store(t.m + i, left);
      }
      fnma(lr, g, w).store(t.weight + i, left);
    }
  });
}

}  // namespace tenon::cpu::TENON_ISA
