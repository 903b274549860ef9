// SPDX-License-Identifier: Apache-2.0
// Computes    sums of squares, and a step of AdamW or SGD (formulas in core/kernel_table.h).
// Layout      flat fp32 arrays.
// Work split  pieces of 4096 elements; the sums of squares of pieces are added in order.
// Numerics    steps in fp32; sums of squares in double, where the square of a float is exact.
// Traffic     AdamW reads 4 and writes 3 floats an element: bound by memory.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 4096;
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

}  // namespace

void sum_squares(const SumSquaresArgs& a) {
  const int64_t pieces = divide_up(a.count, kPiece);
  double* sums = static_cast<double*>(thread_scratch(kPartialSlot, pieces * 8));
  for_ranges(a.count, kPiece, [&](int64_t begin, int64_t end) {
    sums[begin / kPiece] = sum_of_squares(a.x + begin, end - begin);
  });
  double total = 0;
  for (int64_t p = 0; p < pieces; ++p) total += sums[p];
  *a.out = total;
}

void adamw(const AdamWArgs& a) {
  const Vec grad_scale = Vec::all(a.grad_scale), decay = Vec::all(a.lr * a.weight_decay);
  const Vec beta1 = Vec::all(a.beta1), beta2 = Vec::all(a.beta2);
  const Vec rest1 = Vec::all(1.0f - a.beta1), rest2 = Vec::all(1.0f - a.beta2);
  const Vec rate = Vec::all(a.lr / a.correction1),
            root = Vec::all(1.0f / __builtin_sqrtf(a.correction2));
  const Vec eps = Vec::all(a.eps);
  for_ranges(a.count, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t left = end - i;
      const Vec g = Vec::load(a.grad + i, left) * grad_scale;
      const Vec m = fma(beta1, Vec::load(a.m + i, left), rest1 * g);
      const Vec v = fma(beta2, Vec::load(a.v + i, left), rest2 * g * g);
      Vec w = Vec::load(a.weight + i, left);
      w = fnma(decay, w, w);
      w = w - rate * m / fma(sqrt(v), root, eps);
      m.store(a.m + i, left);
      v.store(a.v + i, left);
      w.store(a.weight + i, left);
    }
  });
}

void sgd(const SgdArgs& a) {
  const Vec grad_scale = Vec::all(a.grad_scale), decay = Vec::all(a.weight_decay);
  const Vec momentum = Vec::all(a.momentum), lr = Vec::all(a.lr);
  for_ranges(a.count, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t left = end - i;
      const Vec w = Vec::load(a.weight + i, left);
      Vec g = fma(decay, w, Vec::load(a.grad + i, left) * grad_scale);
      if (a.m != nullptr) {
        g = fma(momentum, Vec::load(a.m + i, left), g);
        g.store(a.m + i, left);
      }
      fnma(lr, g, w).store(a.weight + i, left);
    }
  });
}

}  // namespace tenon::cpu::TENON_ISA
