// SPDX-License-Identifier: Apache-2.0
// Computes    s = x + residual; n = (s - mean) rstd with rstd = 1 / sqrt(var + eps);
//             y = n weight + bias. Gradient: with g = dy weight,
//             ds = rstd (g - mean(g) - n mean(g n)) + dsum, dweight += sum of dy n,
//             dbias += sum of dy. Not centred: without mean and bias, that is with
//             rstd = 1 / sqrt(mean(s^2) + eps) and ds = rstd (g - n mean(g n)) + dsum.
// Layout      rows of C contiguous elements; weight, bias, mean and rstd fp32.
// Work split  one warp a row, 16 bytes of fp32 or bf16 a lane; the sums over rows as in
//             row_sums.cuh.
// Numerics    fp32, lane by lane and then a tree over the lanes. The variance is the mean square of
//             s - mean, in a second pass. s is rounded to its dtype before anything is computed
//             from it, as the gradient will see it.
// Traffic     each array once from memory, the row's later passes come from the cache; the sums
//             over rows read s and dy once more.
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/row_sums.cuh"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kWarps = 4;  // rows a block
constexpr int kThreads = kWarp * kWarps;

// Runs body(c, left) for the packs of N channels that are this lane's.
template <int N, class Body>
__device__ __forceinline__ void for_packs(int64_t channels, const Body& body) {
#pragma unroll 2
  for (int64_t c = lane_of_thread() * N; c < channels; c += kWarp * N) body(c, channels - c);
}

// A row of s = x + residual, rounded to T.
template <class T>
struct Row {
  static constexpr int N = 16 / sizeof(T);
  const T *x, *residual;  // residual: null where x is s already
  bool aligned;
  __device__ __forceinline__ Floats<N> at(int64_t c, int64_t left) const {
    Floats<N> v = load<N>(x + c, left, aligned);
    if (residual == nullptr) return v;
    const Floats<N> w = load<N>(residual + c, left, aligned);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] = rounded_to<T>(v[k] + w[k]);
    return v;
  }
};

template <bool centred, class T>
__global__ void __launch_bounds__(kThreads) norm_kernel(NormArgs a, bool aligned) {
  constexpr int N = Row<T>::N;
  const int64_t r = int64_t{blockIdx.x} * kWarps + warp_of_thread();
  if (r >= a.rows) return;
  const int64_t at = r * a.channels;
  const float count = static_cast<float>(a.channels), share = 1.0f / count;
  Row<T> row = {static_cast<const T*>(a.x) + at,
                a.residual == nullptr ? nullptr : static_cast<const T*>(a.residual) + at, aligned};
  T* s = a.residual == nullptr || a.sum == nullptr ? nullptr : static_cast<T*>(a.sum) + at;
  float sum = 0;  // of s, or of its squares
  for_packs<N>(a.channels, [&](int64_t c, int64_t left) {
    const Floats<N> v = row.at(c, left);
    if (s != nullptr) store(s + c, v, left, aligned);
#pragma unroll
    for (int k = 0; k < N; ++k) sum = centred ? sum + v[k] : fmaf(v[k], v[k], sum);
  });
  // A lane reads what it wrote itself; x or residual may be gone, since s may stand in its place.
  if (s != nullptr) row = {s, nullptr, aligned};
  const float total = warp_sum(sum), mean = centred ? total * share : 0.0f;
  float variance = total / count;
  if constexpr (centred) {
    float squares = 0;
    for_packs<N>(a.channels, [&](int64_t c, int64_t left) {
      const Floats<N> v = row.at(c, left);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const float d = k < left ? v[k] - mean : 0.0f;
        squares = fmaf(d, d, squares);
      }
    });
    variance = warp_sum(squares) * share;
  }
  const float rstd = 1.0f / sqrtf(variance + a.eps);
  T* y = static_cast<T*>(a.y) + at;
  for_packs<N>(a.channels, [&](int64_t c, int64_t left) {
    Floats<N> v = row.at(c, left);
    const Floats<N> w = load<N>(a.weight + c, left, aligned);
    if constexpr (centred) {
      const Floats<N> b = load<N>(a.bias + c, left, aligned);
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = fmaf((v[k] - mean) * rstd, w[k], b[k]);
    } else {
#pragma unroll
      for (int k = 0; k < N; ++k) v[k] = v[k] * rstd * w[k];
    }
    store(y + c, v, left, aligned);
  });
  if (lane_of_thread() != 0) return;
  if (a.mean != nullptr) a.mean[r] = mean;
  if (a.rstd != nullptr) a.rstd[r] = rstd;
}

// The gradient of s, a row a warp.
template <bool centred, class T>
__global__ void __launch_bounds__(kThreads) norm_grad_kernel(NormGradArgs a, bool aligned) {
  constexpr int N = 16 / sizeof(T);
  const int64_t r = int64_t{blockIdx.x} * kWarps + warp_of_thread();
  if (r >= a.rows) return;
  const int64_t at = r * a.channels;
  const T *s = static_cast<const T*>(a.s) + at, *dy = static_cast<const T*>(a.dy) + at;
  const T* dsum = a.dsum == nullptr ? nullptr : static_cast<const T*>(a.dsum) + at;
  const float mean = centred ? a.mean[r] : 0.0f, rstd = a.rstd[r];
  const float count = static_cast<float>(a.channels), share = 1.0f / count;
  const auto normal = [&](float v) { return centred ? (v - mean) * rstd : v * rstd; };
  float sum_g = 0, sum_gn = 0;
  for_packs<N>(a.channels, [&](int64_t c, int64_t left) {
    const Floats<N> v = load<N>(s + c, left, aligned), d = load<N>(dy + c, left, aligned),
                    w = load<N>(a.weight + c, left, aligned);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float g = d[k] * w[k];
      if constexpr (centred) sum_g += g;
      sum_gn = fmaf(g, normal(v[k]), sum_gn);
    }
  });
  const float mean_g = centred ? warp_sum(sum_g) * share : 0.0f;
  const float mean_gn = centred ? warp_sum(sum_gn) * share : warp_sum(sum_gn) / count;
  T* ds = static_cast<T*>(a.ds) + at;
  for_packs<N>(a.channels, [&](int64_t c, int64_t left) {
    const Floats<N> v = load<N>(s + c, left, aligned), w = load<N>(a.weight + c, left, aligned);
    Floats<N> d = load<N>(dy + c, left, aligned), other = {};
    if (dsum != nullptr) other = load<N>(dsum + c, left, aligned);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float g = centred ? fmaf(d[k], w[k], -mean_g) : d[k] * w[k];
      d[k] = rstd * fmaf(-normal(v[k]), mean_gn, g) + other[k];
    }
    store(ds + c, d, left, aligned);
  });
}

// What dweight and, of layer norm, dbias sum: dy n and dy.
template <bool centred, class T>
struct NormTerms {
  static constexpr int kSums = centred ? 2 : 1;
  const T *s, *dy;           // (rows, C)
  const float *mean, *rstd;  // (rows)
  int64_t channels;
  bool aligned;
  __device__ __forceinline__ void add(int64_t r, int64_t c, int64_t left,
                                      Floats<kSumPack> (&sums)[kSums]) const {
    const int64_t at = r * channels + c;
    const Floats<kSumPack> v = load<kSumPack>(s + at, left, aligned),
                           d = load<kSumPack>(dy + at, left, aligned);
    const float m = centred ? mean[r] : 0.0f, scale = rstd[r];
#pragma unroll
    for (int k = 0; k < kSumPack; ++k) {
      sums[0][k] = fmaf(d[k], centred ? (v[k] - m) * scale : v[k] * scale, sums[0][k]);
      if constexpr (centred) sums[1][k] += d[k];
    }
  }
};

dim3 blocks_of(int64_t rows) { return extent(divide_up(rows, kWarps)); }

template <bool centred>
void normalise(const char* name, const NormArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    constexpr int N = 16 / sizeof(T);
    const bool aligned = a.channels % N == 0 && aligned_for<N, T>(a.x, a.residual, a.sum, a.y) &&
                         aligned_for<N, float>(a.weight, a.bias);
    launch(name, norm_kernel<centred, T>, blocks_of(a.rows), kThreads, 0, a, aligned);
  });
}

template <bool centred>
void normalise_grad(const char* name, const NormGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    constexpr int N = 16 / sizeof(T);
    // The sums come first: ds may stand in the place of dy.
    if (a.dweight != nullptr || a.dbias != nullptr) {
      const NormTerms<centred, T> terms = {
          static_cast<const T*>(a.s),
          static_cast<const T*>(a.dy),
          a.mean,
          a.rstd,
          a.channels,
          a.channels % kSumPack == 0 && aligned_for<kSumPack, T>(a.s, a.dy)};
      if constexpr (centred) {
        add_row_sums(name, terms, a.rows, a.channels, {a.dweight, a.dbias});
      } else {
        add_row_sums(name, terms, a.rows, a.channels, {a.dweight});
      }
    }
    if (a.ds == nullptr) return;
    const bool aligned = a.channels % N == 0 && aligned_for<N, T>(a.s, a.dy, a.dsum, a.ds) &&
                         aligned_for<N, float>(a.weight);
    launch(name, norm_grad_kernel<centred, T>, blocks_of(a.rows), kThreads, 0, a, aligned);
  });
}

}  // namespace

void norm(const NormArgs& a) {
  a.centred ? normalise<true>("norm", a) : normalise<false>("norm, not centred", a);
}

void norm_grad(const NormGradArgs& a) {
  a.centred ? normalise_grad<true>("norm_grad", a)
            : normalise_grad<false>("norm_grad, not centred", a);
}

}  // namespace tenon::cuda::TENON_SM
