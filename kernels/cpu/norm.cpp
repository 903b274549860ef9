// SPDX-License-Identifier: Apache-2.0
// Computes    s = x + residual; n = (s - mean) rstd with rstd = 1 / sqrt(var + eps);
//             y = n weight + bias. Gradient: with g = dy weight,
//             ds = rstd (g - mean(g) - n mean(g n)) + dsum, dweight += sum of dy n,
//             dbias += sum of dy.
// Layout      rows of C contiguous elements; weight, bias, mean and rstd fp32.
// Work split  16 rows at a time; the sums over rows as in row_sums.h.
// Numerics    fp32, lane-wise then Vec::sum(). The variance is the mean square of s - mean, in a
//             second pass. s is rounded to its dtype before anything is computed from it, as the
//             gradient will see it.
// Traffic     each array once: the row's later passes come from the first-level cache.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kRows = 16;

// row = x (+ residual, rounded to T, also stored as `s` where wanted); returns its sum.
template <class T>
float load_row(const T* x, const T* residual, T* s, float* row, int64_t channels) {
  Sums sums;
  for_vectors(channels, [&](int64_t c, int64_t left, int part) {
    Vec v = Vec::load(x + c, left);
    if (residual != nullptr) v = rounded_to<T>(v + Vec::load(residual + c, left));
    if (s != nullptr) v.store(s + c, left);
    v.store(row + c, left);
    sums.part[part] = sums.part[part] + v;
  });
  return sums.total().sum();
}

float sum_of_square_differences(const float* row, float mean, int64_t channels) {
  Sums sums;
  for_vectors(channels, [&](int64_t c, int64_t left, int part) {
    const Vec v = select(Mask::first(left), Vec::load(row + c, left) - Vec::all(mean), Vec::zero());
    sums.part[part] = fma(v, v, sums.part[part]);
  });
  return sums.total().sum();
}

template <class T>
void normalise_row(const LayerNormArgs& a, int64_t r, float* row) {
  const int64_t channels = a.channels, at = r * channels;
  const float share = 1.0f / static_cast<float>(channels);
  const T* residual = a.residual == nullptr ? nullptr : static_cast<const T*>(a.residual) + at;
  T* s = residual == nullptr || a.sum == nullptr ? nullptr : static_cast<T*>(a.sum) + at;
  const float mean = load_row(static_cast<const T*>(a.x) + at, residual, s, row, channels) * share;
  const float rstd =
      1.0f / __builtin_sqrtf(sum_of_square_differences(row, mean, channels) * share + a.eps);
  T* y = static_cast<T*>(a.y) + at;
  for_vectors(channels, [&](int64_t c, int64_t left, int) {
    const Vec n = (Vec::load(row + c, left) - Vec::all(mean)) * Vec::all(rstd);
    fma(n, Vec::load(a.weight + c, left), Vec::load(a.bias + c, left)).store(y + c, left);
  });
  if (a.mean != nullptr) a.mean[r] = mean;
  if (a.rstd != nullptr) a.rstd[r] = rstd;
}

// The gradient of one row; dweight and dbias (this block's partial sums) may be null.
template <class T>
void normalise_row_grad(const LayerNormGradArgs& a, int64_t r, float* dweight, float* dbias) {
  const int64_t channels = a.channels, at = r * channels;
  const T *s = static_cast<const T*>(a.s) + at, *dy = static_cast<const T*>(a.dy) + at;
  const Vec mean = Vec::all(a.mean[r]), rstd = Vec::all(a.rstd[r]);
  Sums sum_g, sum_gn;
  for_vectors(channels, [&](int64_t c, int64_t left, int part) {
    const Vec d = Vec::load(dy + c, left), n = (Vec::load(s + c, left) - mean) * rstd;
    const Vec g = d * Vec::load(a.weight + c, left);
    sum_g.part[part] = sum_g.part[part] + g;
    sum_gn.part[part] = fma(g, n, sum_gn.part[part]);
    if (dweight != nullptr) fma(d, n, Vec::load(dweight + c, left)).store(dweight + c, left);
    if (dbias != nullptr) (Vec::load(dbias + c, left) + d).store(dbias + c, left);
  });
  if (a.ds == nullptr) return;
  const float share = 1.0f / static_cast<float>(channels);
  const Vec mean_g = Vec::all(sum_g.total().sum() * share),
            mean_gn = Vec::all(sum_gn.total().sum() * share);
  T* ds = static_cast<T*>(a.ds) + at;
  const T* dsum = a.dsum == nullptr ? nullptr : static_cast<const T*>(a.dsum) + at;
  for_vectors(channels, [&](int64_t c, int64_t left, int) {
    const Vec n = (Vec::load(s + c, left) - mean) * rstd;
    const Vec g = fma(Vec::load(dy + c, left), Vec::load(a.weight + c, left), Vec::zero() - mean_g);
    Vec d = rstd * fnma(n, mean_gn, g);
    if (dsum != nullptr) d = d + Vec::load(dsum + c, left);
    d.store(ds + c, left);
  });
}

}  // namespace

void layer_norm(const LayerNormArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
      float* row = static_cast<float*>(thread_scratch(kRowSlot, a.channels * 4));
      for (int64_t r = begin; r < end; ++r) normalise_row<T>(a, r, row);
    });
  });
}

void layer_norm_grad(const LayerNormGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    if (a.dweight == nullptr && a.dbias == nullptr) {
      for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) normalise_row_grad<T>(a, r, nullptr, nullptr);
      });
      return;
    }
    const auto sum_block = [&](int64_t begin, int64_t end, float* partial) {
      for (int64_t r = begin; r < end; ++r)
        normalise_row_grad<T>(a, r, partial, partial + a.channels);
    };
    const float* partial = sum_row_blocks(a.rows, 2 * a.channels, sum_block);
    if (a.dweight != nullptr)
      add_row_blocks(partial, a.rows, 2 * a.channels, a.channels, a.dweight);
    if (a.dbias != nullptr)
      add_row_blocks(partial + a.channels, a.rows, 2 * a.channels, a.channels, a.dbias);
  });
}

}  // namespace tenon::cpu::TENON_ISA
