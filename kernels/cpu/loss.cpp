// SPDX-License-Identifier: Apache-2.0
// Computes    loss = log(sum(exp(logits))) - logits[target]; logits become
//             (softmax - onehot(target)) scale.
// Layout      rows of V fp32 logits, `stride` apart.
// Work split  2 rows at a time.
// Numerics    in pieces of 1024 elements: the maximum so far and the sum of exp(x - maximum), which
//             is rescaled when a piece raises the maximum. For the gradient these exponentials stay
//             in place of the logits, and a second pass multiplies each piece by
//             exp(its maximum - maximum) scale / sum. fp32, lane-wise then Vec::sum().
// Traffic     reads the row once for the loss, and writes it once for the gradient; the second pass
//             is in the second-level cache (a row of 50257 logits is 200 KB).
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kRows = 2, kPiece = 1024;

const float kInfinity = __builtin_inff();

// The lanes past the end of the row become -infinity.
inline Vec load_logits(const float* x, int64_t left) {
  const Vec v = Vec::load(x, left);
  return left >= kLanes ? v : select(Mask::first(left), v, Vec::all(-kInfinity));
}

struct Softmax {
  float maximum, sum;  // of exp(x - maximum)
};

float largest_of(const float* x, int64_t count) {
  Vec largest[4];
  for (Vec& l : largest) l = Vec::all(-kInfinity);
  for_vectors(count, [&](int64_t i, int64_t left, int part) {
    largest[part] = max(largest[part], load_logits(x + i, left));
  });
  return max(max(largest[0], largest[1]), max(largest[2], largest[3])).largest();
}

// Where `keep`, x becomes exp(x - base) with the piece's base, the maximum so far.
template <bool keep>
Softmax softmax_of(float* x, float* bases, int64_t count) {
  float maximum = -kInfinity;
  Sums sums;
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    float* piece = x + begin;
    const int64_t size = smaller(kPiece, count - begin);
    const float found = largest_of(piece, size);
    if (found > maximum) {
      const Vec rescale = exp(Vec::all(maximum - found));
      for (Vec& s : sums.part) s = s * rescale;
      maximum = found;
    }
    const Vec base =
        Vec::all(maximum == -kInfinity ? 0 : maximum);  // a piece of -infinity adds nothing
    if (keep) bases[begin / kPiece] = maximum;
    const int64_t ahead = begin + kPiece < count ? kPiece : 0;
    for_vectors(size, [&](int64_t i, int64_t left, int part) {
      prefetch(piece + ahead + i);
      const Vec e = exp(load_logits(piece + i, left) - base);
      sums.part[part] = sums.part[part] + e;
      if (keep) e.store(piece + i, left);
    });
  }
  return {maximum, sums.total().sum()};
}

// The gradient from the exponentials; `next` is what the next pass reads.
void scale_pieces(float* x, const float* bases, int64_t count, Softmax softmax, float scale,
                  const float* next) {
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const Vec share = exp(Vec::all(bases[begin / kPiece] - softmax.maximum));
    const Vec factor = share * Vec::all(scale / softmax.sum);
    float* piece = x + begin;
    for_vectors(smaller(kPiece, count - begin), [&](int64_t i, int64_t left, int) {
      prefetch(next + begin + i);
      (Vec::load(piece + i, left) * factor).store(piece + i, left);
    });
  }
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& a) {
  const int64_t bytes = divide_up(a.vocabulary, kPiece) * 4;
  reserve_scratch(kRowSlot, bytes);
  for_ranges(a.rows, kRows, [&](int64_t first, int64_t end) {
    float* bases = static_cast<float*>(thread_scratch(kRowSlot, bytes));
    for (int64_t r = first; r < end; ++r) {
      float* x = a.logits + r * a.stride;
      const int32_t target = a.targets[r];
      const float logit = x[target];
      const Softmax softmax = a.write_gradient ? softmax_of<true>(x, bases, a.vocabulary)
                                               : softmax_of<false>(x, bases, a.vocabulary);
      a.loss[r] = __builtin_logf(softmax.sum) + (softmax.maximum - logit);
      if (!a.write_gradient) continue;
      const float* next = r + 1 < end ? x + a.stride : x;
      scale_pieces(x, bases, a.vocabulary, softmax, a.scale, next);
      x[target] -= a.scale;
    }
  });
}

}  // namespace tenon::cpu::TENON_ISA
