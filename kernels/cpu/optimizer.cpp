// SPDX-License-Identifier: Apache-2.0
// Computes    sums of squares, and a step of AdamW or SGD (formulas in core/kernel_table.h).
// Layout      lists of flat arrays: weights in fp32, bf16 or fp16, the others in fp32.
// Work split  8 pieces at a time, of 4096 elements of one tensor of the list; the sums of squares
//             of pieces are added in order.
// Numerics    steps in fp32, bf16 weights rounded stochastically; sums of squares in double, where the square of a float is exact.
// Traffic     AdamW reads 4 and writes 3 floats an element: bound by memory.
#include "kernels/cpu/dynamic_code.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rounding.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/step_factor.h"
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

// Calls body(weights, tensor, begin, end) for every piece of the list.
template <class Body>
void for_weights(const OptimizerList& list, Rounding rounding, const Body& body) {
  for_pieces(list, [&](const OptimizerTensor& t, int64_t begin, int64_t end, int64_t) {
    dispatch_float(t.dtype, [&](auto element) {
      Weights<decltype(element)> weights(t.weight, rounding, t.number);
      body(weights, t, begin, end);
    });
  });
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
  // Elements [begin, end) with their moments from m and v on.
  const auto update = [&](auto& weights, const OptimizerTensor& t, float* m_begin, float* v_begin,
                          int64_t begin, int64_t end) {
    const Vec decay = Vec::all(a.lr * t.weight_decay);
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t left = end - i;
      float *const m_at = m_begin + (i - begin), *const v_at = v_begin + (i - begin);
      const Vec g = Vec::load(t.grad + i, left) * grad_scale;
      const Vec m = fma(beta1, Vec::load(m_at, left), rest1 * g);
      const Vec v = fma(beta2, Vec::load(v_at, left), rest2 * g * g);
      Vec w = weights.load(i, left);
      w = fnma(decay, w, w);
      w = w - rate * m / fma(sqrt(v), root, eps);
      m.store(m_at, left);
      v.store(v_at, left);
      weights.store(w, i, left);
    }
  };
  for_weights(
      a.list, a.rounding, [&](auto& weights, const OptimizerTensor& t, int64_t begin, int64_t end) {
        if (t.m_codes == nullptr) return update(weights, t, t.m + begin, t.v + begin, begin, end);
        for (int64_t i = begin; i < end; i += kCodeBlock) {
          const int64_t count = smaller(kCodeBlock, end - i), block = i / kCodeBlock;
          float m[kCodeBlock], v[kCodeBlock];
          decode_block(*a.signed_code, t.m_codes + i, t.m_scales[block], m, count);
          decode_block(*a.unsigned_code, t.v_codes + i, t.v_scales[block], v, count);
          update(weights, t, m, v, i, i + count);
          t.m_scales[block] = encode_block<true>(*a.signed_code, m, t.m_codes + i, count);
          t.v_scales[block] = encode_block<false>(*a.unsigned_code, v, t.v_codes + i, count);
        }
      });
}

void sgd(const SgdArgs& a) {
  float factor = 0;
  if (!factor_of(a.scale, &factor)) return;
  const Vec grad_scale = Vec::all(factor), momentum = Vec::all(a.momentum), lr = Vec::all(a.lr);
  for_weights(a.list, a.rounding,
              [&](auto& weights, const OptimizerTensor& t, int64_t begin, int64_t end) {
                const Vec decay = Vec::all(t.weight_decay);
                for (int64_t i = begin; i < end; i += kLanes) {
                  const int64_t left = end - i;
                  const Vec w = weights.load(i, left);
                  Vec g = fma(decay, w, Vec::load(t.grad + i, left) * grad_scale);
                  if (t.m != nullptr) {
                    g = fma(momentum, Vec::load(t.m + i, left), g);
                    g.store(t.m + i, left);
                  }
                  weights.store(fnma(lr, g, w), i, left);
                }
              });
}

}  // namespace tenon::cpu::TENON_ISA
