// SPDX-License-Identifier: Apache-2.0
// Computes    s = x + residual; n = (s - mean) rstd with rstd = 1 / sqrt(var + eps);
//             y = n weight + bias. Gradient: with g = dy weight,
//             ds = rstd (g - mean(g) - n mean(g n)) + dsum, dweight += sum of dy n,
//             dbias += sum of dy. Not centred: without means and bias, that is
//             with rstd = 1 / sqrt(mean(s^2) + eps) and ds = rstd (g - n mean(g n)) + dsum.
// Layout      rows of C contiguous elements; weight, bias, mean and rstd fp32.
// Work split  16 rows at a time; the sums over rows as in row_sums.h.
// Numerics    fp32, lane-wise then Vec::sum(). The variance is the mean square of s - mean, in a
//             second pass. s is rounded to its dtype before anything is computed from it, as the
//             gradient will see it.
// Traffic     each array once: later passes over a row, or over the gradient's 4 rows, come from
//             the caches.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kRows = 16;

// A row of s, and the sum of its elements, or of their squares.
template <class T>
struct Row {
  const T* values;
  float sum;
};

// s = x (+ residual, rounded to T, also stored where wanted). What is stored past the caches is put
// into `scratch` too.
template <bool squares, bool stream, class T>
Row<T> load_row(const T* x, const T* residual, T* s, T* scratch, int64_t channels) {
  Sums sums;
  const auto add = [&](Vec v, int part) {
    sums.part[part] = squares ? fma(v, v, sums.part[part]) : sums.part[part] + v;
  };
  if (residual == nullptr) {
    for_vectors(channels,
                [&](int64_t c, int64_t left, int part) { add(Vec::load(x + c, left), part); });
    return {x, sums.total().sum()};
  }
  T* values = stream || s == nullptr ? scratch : s;
  for_vectors(channels, [&](int64_t c, int64_t left, int part) {
    const Vec v = rounded_to<T>(Vec::load(x + c, left) + Vec::load(residual + c, left));
    if (stream && s != nullptr) put<true>(v, s + c, left);
    v.store(values + c, left);
    add(v, part);
  });
  return {values, sums.total().sum()};
}

template <class T>
float sum_of_square_differences(const T* row, float mean, int64_t channels) {
  Sums sums;
  for_vectors(channels, [&](int64_t c, int64_t left, int part) {
    const Vec d = Vec::load(row + c, left) - Vec::all(mean);
    const Vec v = left >= kLanes ? d : select(Mask::first(left), d, Vec::zero());
    sums.part[part] = fma(v, v, sums.part[part]);
  });
  return sums.total().sum();
}

template <bool centred, bool stream, class T>
void normalise_row(const NormArgs& a, int64_t r, T* scratch) {
  const int64_t channels = a.channels, at = r * channels;
  const float count = static_cast<float>(channels);
  const T* x = static_cast<const T*>(a.x) + at;
  const T* residual = a.residual == nullptr ? nullptr : static_cast<const T*>(a.residual) + at;
  T* s = residual == nullptr || a.sum == nullptr ? nullptr : static_cast<T*>(a.sum) + at;
  const Row<T> row = load_row<!centred, stream>(x, residual, s, scratch, channels);
  const float mean = centred ? row.sum / count : 0;
  const float squares = centred ? sum_of_square_differences(row.values, mean, channels) : row.sum;
  const float rstd = 1.0f / __builtin_sqrtf(squares / count + a.eps);
  T* y = static_cast<T*>(a.y) + at;
  const int64_t ahead = r + 1 < a.rows ? channels : 0;
  for_vectors(channels, [&](int64_t c, int64_t left, int) {
    prefetch(x + ahead + c);
    if (residual != nullptr) prefetch(residual + ahead + c);
    const Vec v = Vec::load(row.values + c, left), w = Vec::load(a.weight + c, left);
    if constexpr (centred) {
      const Vec n = (v - Vec::all(mean)) * Vec::all(rstd);
      put<stream>(fma(n, w, Vec::load(a.bias + c, left)), y + c, left);
    } else {
      put<stream>(v * Vec::all(rstd) * w, y + c, left);
    }
  });
  if (a.mean != nullptr) a.mean[r] = mean;
  if (a.rstd != nullptr) a.rstd[r] = rstd;
}

template <bool centred>
void normalise(const NormArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const int64_t row_bytes = a.channels * static_cast<int64_t>(sizeof(T));
    const bool stream = rows_past_caches(a.y, a.rows, row_bytes) &&
                        (a.sum == nullptr || (a.sum != a.x && a.sum != a.residual &&
                                              rows_past_caches(a.sum, a.rows, row_bytes)));
    reserve_scratch(kRowSlot, row_bytes);
    for_ranges(a.rows, kRows, [&](int64_t begin, int64_t end) {
      T* scratch = static_cast<T*>(thread_scratch(kRowSlot, row_bytes));
      for (int64_t r = begin; r < end; ++r) {
        if (stream) {
          normalise_row<centred, true, T>(a, r, scratch);
        } else {
          normalise_row<centred, false, T>(a, r, scratch);
        }
      }
      if (stream) finish_streams();
    });
  });
}

// The mean of g and of g n over a row.
struct Means {
  float g = 0, gn = 0;
};

template <bool centred, class T>
Means means_of_row(const NormGradArgs& a, int64_t r) {
  const T* s = static_cast<const T*>(a.s) + r * a.channels;
  const T* dy = static_cast<const T*>(a.dy) + r * a.channels;
  const Vec mean = Vec::all(centred ? a.mean[r] : 0), rstd = Vec::all(a.rstd[r]);
  const T* dsum = a.dsum == nullptr ? dy : static_cast<const T*>(a.dsum) + r * a.channels;
  Sums sum_g, sum_gn;
  for_vectors(a.channels, [&](int64_t c, int64_t left, int part) {
    prefetch(dsum + c);
    const Vec v = Vec::load(s + c, left), n = (centred ? v - mean : v) * rstd;
    const Vec g = Vec::load(dy + c, left) * Vec::load(a.weight + c, left);
    if constexpr (centred) sum_g.part[part] = sum_g.part[part] + g;
    sum_gn.part[part] = fma(g, n, sum_gn.part[part]);
  });
  const float count = static_cast<float>(a.channels);
  return {centred ? sum_g.total().sum() / count : 0, sum_gn.total().sum() / count};
}

template <int count>
struct Vectors {
  static constexpr int kCount = count;
};

// ds of `rows` rows from row r on, and their terms of dweight and dbias, which may be null (dbias
// is where not centred). Several rows at once so that these sums stay in registers.
template <bool centred, bool stream, int rows, class T>
void normalise_rows_grad(const NormGradArgs& a, int64_t r, float* dweight, float* dbias) {
  const int64_t channels = a.channels;
  const T *s = static_cast<const T*>(a.s) + r * channels,
          *dy = static_cast<const T*>(a.dy) + r * channels;
  const T* dsum = a.dsum == nullptr ? nullptr : static_cast<const T*>(a.dsum) + r * channels;
  T* ds = a.ds == nullptr ? nullptr : static_cast<T*>(a.ds) + r * channels;
  Vec mean[rows], rstd[rows], minus_mean_g[rows], mean_gn[rows];
  for (int i = 0; i < rows; ++i) {
    const Means means = ds != nullptr ? means_of_row<centred, T>(a, r + i) : Means{};
    mean[i] = Vec::all(centred ? a.mean[r + i] : 0);
    rstd[i] = Vec::all(a.rstd[r + i]);
    minus_mean_g[i] = Vec::all(-means.g);
    mean_gn[i] = Vec::all(means.gn);
  }
  // A line of each array at a time.
  constexpr int kVectors =
      static_cast<int>(larger(1, 64 / (kLanes * static_cast<int64_t>(sizeof(T)))));
  const int64_t ahead = r + 2 * rows <= a.rows ? rows * channels : 0;
  const auto columns = [&](int64_t c, int64_t left, auto vectors) {
    constexpr int kCount = decltype(vectors)::kCount;
    for (int i = 0; i < rows; ++i) {
      prefetch(s + ahead + i * channels + c);
      prefetch(dy + ahead + i * channels + c);
    }
    Vec w[kCount], sum_dn[kCount], sum_d[kCount];
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k) {
      const int64_t at = c + k * kLanes;
      w[k] = Vec::load(a.weight + at, left);
      sum_dn[k] = dweight != nullptr ? Vec::load(dweight + at, left) : Vec::zero();
      sum_d[k] = dbias != nullptr ? Vec::load(dbias + at, left) : Vec::zero();
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
      for (int k = 0; k < kCount; ++k) {
        const int64_t at = i * channels + c + k * kLanes;
        const Vec v = Vec::load(s + at, left), n = (centred ? v - mean[i] : v) * rstd[i];
        const Vec d = Vec::load(dy + at, left);
        sum_dn[k] = fma(d, n, sum_dn[k]);
        sum_d[k] = sum_d[k] + d;
        if (ds == nullptr) continue;
        const Vec g = centred ? fma(d, w[k], minus_mean_g[i]) : d * w[k];
        Vec out = rstd[i] * fnma(n, mean_gn[i], g);
        if (dsum != nullptr) out = out + Vec::load(dsum + at, left);
        put<stream>(out, ds + at, left);
      }
    }
#pragma GCC unroll 4
    for (int k = 0; k < kCount; ++k) {
      if (dweight != nullptr) sum_dn[k].store(dweight + c + k * kLanes, left);
      if (dbias != nullptr) sum_d[k].store(dbias + c + k * kLanes, left);
    }
  };
  constexpr int64_t kStep = kVectors * kLanes;
  int64_t c = 0;
  for (; c + kStep <= channels; c += kStep) columns(c, kLanes, Vectors<kVectors>());
  for (; c < channels; c += kLanes) columns(c, channels - c, Vectors<1>());
}

template <bool centred, bool stream, class T>
void normalise_range_grad(const NormGradArgs& a, int64_t begin, int64_t end, float* dweight,
                          float* dbias) {
  constexpr int kGroup = 4;
  int64_t r = begin;
  if (dweight == nullptr && dbias == nullptr) {  // nothing is shared by the rows
    for (; r < end; ++r) normalise_rows_grad<centred, stream, 1, T>(a, r, nullptr, nullptr);
  }
  for (; r + kGroup <= end; r += kGroup)
    normalise_rows_grad<centred, stream, kGroup, T>(a, r, dweight, dbias);
  for (; r < end; ++r) normalise_rows_grad<centred, stream, 1, T>(a, r, dweight, dbias);
  if (stream) finish_streams();
}

template <bool centred>
void normalise_grad(const NormGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const bool stream =
        a.ds != nullptr && a.ds != a.dy && a.ds != a.dsum &&
        rows_past_caches(a.ds, a.rows, a.channels * static_cast<int64_t>(sizeof(T)));
    const auto range =
        stream ? normalise_range_grad<centred, true, T> : normalise_range_grad<centred, false, T>;
    if (a.dweight == nullptr && a.dbias == nullptr) {
      for_ranges(a.rows, kRows,
                 [&](int64_t begin, int64_t end) { range(a, begin, end, nullptr, nullptr); });
      return;
    }
    const int64_t sums = (centred ? 2 : 1) * a.channels;
    const float* partial =
        sum_row_blocks(a.rows, sums, [&](int64_t begin, int64_t end, float* own) {
          range(a, begin, end, own, centred ? own + a.channels : nullptr);
        });
    if (a.dweight != nullptr) add_row_blocks(partial, a.rows, sums, a.channels, a.dweight);
    if (a.dbias != nullptr) add_row_blocks(partial + a.channels, a.rows, sums, a.channels, a.dbias);
  });
}

}  // namespace

void norm(const NormArgs& a) { a.centred ? normalise<true>(a) : normalise<false>(a); }

void norm_grad(const NormGradArgs& a) {
  a.centred ? normalise_grad<true>(a) : normalise_grad<false>(a);
}

}  // namespace tenon::cpu::TENON_ISA
