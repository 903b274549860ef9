// SPDX-License-Identifier: Apache-2.0
// Computes    loss = log(sum(exp(logits))) - logits[target]; logits become
//             (softmax - onehot(target)) scale.
// Layout      rows of V fp32 logits, `stride` apart.
// Work split  whole rows.
// Numerics    the maximum and the sum of exp(x - maximum) in one pass, in pieces of 1024 elements:
//             the sum is rescaled when a piece raises the maximum. fp32, lane-wise then Vec::sum().
// Traffic     reads the row once for the loss; reads and writes it once more for the gradient,
//             mostly in the second-level cache (a row of 50257 logits is 200 KB).
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 1024;

const float kInfinity = __builtin_inff();

// The lanes past the end of the row become -infinity.
inline Vec load_logits(const float* x, int64_t left) {
  const Vec v = Vec::load(x, left);
  return left >= kLanes ? v : select(Mask::first(left), v, Vec::all(-kInfinity));
}

struct Softmax {
  float maximum, sum;  // of exp(x - maximum)
};

Softmax softmax_of(const float* x, int64_t count) {
  float maximum = -kInfinity;
  Sums sums;
  for (int64_t begin = 0; begin < count; begin += kPiece) {
    const float* piece = x + begin;
    const int64_t size = smaller(kPiece, count - begin);
    Vec largest[4];
    for (Vec& l : largest) l = Vec::all(-kInfinity);
    for_vectors(size, [&](int64_t i, int64_t left, int part) {
      largest[part] = max(largest[part], load_logits(piece + i, left));
    });
    const float found = max(max(largest[0], largest[1]), max(largest[2], largest[3])).largest();
    if (found > maximum) {
      const Vec rescale = exp(Vec::all(maximum - found));
      for (Vec& s : sums.part) s = s * rescale;
      maximum = found;
    }
    const Vec base =
        Vec::all(maximum == -kInfinity ? 0 : maximum);  // a piece of -infinity adds nothing
    for_vectors(size, [&](int64_t i, int64_t left, int part) {
      sums.part[part] = sums.part[part] + exp(load_logits(piece + i, left) - base);
    });
  }
  return {maximum, sums.total().sum()};
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& a) {
  for_chunks(a.rows, [&](int64_t r) {
    float* x = a.logits + r * a.stride;
    const int32_t target = a.targets[r];
    const Softmax softmax = softmax_of(x, a.vocabulary);
    a.loss[r] = __builtin_logf(softmax.sum) + (softmax.maximum - x[target]);
    if (!a.write_gradient) return;
    const Vec maximum = Vec::all(softmax.maximum), factor = Vec::all(a.scale / softmax.sum);
    for_vectors(a.vocabulary, [&](int64_t i, int64_t left, int) {
      (exp(Vec::load(x + i, left) - maximum) * factor).store(x + i, left);
    });
    x[target] -= a.scale;
  });
}

}  // namespace tenon::cpu::TENON_ISA
