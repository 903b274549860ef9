// SPDX-License-Identifier: Apache-2.0
// Computes    y = f(x) and dx = dy f'(x), elementwise; gated: y = f(gate) up,
//             dgate = dy up f'(gate) and dup = dy f(gate). Four of the functions
//             are x times a sigmoid.
// Layout      arrays of `count` elements of one dtype; y may be x, dx may be dy. gate and up are
//             rows that lie `stride` apart, their gradients `dstride`.
// Work split  16 bytes a thread; gated: a grid row for each row.
// Numerics    fp32, rounded once on store.
// Traffic     reads 1 (gradient: 2; gated: 2 and 3) and writes 1 element for each element (gradient
//             of gated: 2): bound by memory.
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/types.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

constexpr int kThreads = 256;

// (1 + tanh u) / 2 = sigmoid(2 u), so GELU's tanh form is x sigmoid(2 u) with
// u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float kGelu1 = 1.5957691216f, kGelu3 = 0.0713548163f;

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// sum of c[i] x^i for i < N, the highest power first.
template <int N>
__device__ __forceinline__ float polynomial(float x, const float (&c)[N]) {
  float p = c[0];
#pragma unroll
  for (int i = 1; i < N; ++i) p = fmaf(p, x, c[i]);
  return p;
}

// (1 + erf(x / sqrt(2))) / 2 and the density e^(-x^2 / 2) / sqrt(2 pi).
struct Normal {
  float cdf, density;
};
// The distribution function is 1/2 + x p(x^2) for |x| < 1; beyond, its lower tail is e^(-x^2 / 2) u
// q(u) with u = 1 / (1 + 0.3 |x|), so that it keeps its relative precision: within 3.1 ulp for x >
// -1, 10 ulp for x > -4, 67 ulp for x > -13 (the rounding of x^2 / 2). The polynomials are minimax
// fits. erfc(-x / sqrt(2)) would lose twice as much in the tail, to the rounding of its argument.
__device__ __forceinline__ Normal normal(float x) {
  constexpr float kNear[] = {-7.4628933e-06f, 0.00011295217f, -0.0011857849f,
                             0.009973078f,    -0.066490315f,  0.3989423f};
  constexpr float kTail[] = {0.026767962f, -0.12740804f, 0.16504642f, -0.023007154f,
                             0.115416974f, 0.10315622f,  0.12032809f, 0.119652264f};
  const float size = fabsf(x), z = x * x, e = expf(z * -0.5f);
  const float near = fmaf(polynomial(z, kNear), x, 0.5f);
  const float u = 1.0f / fmaf(size, 0.3f, 1.0f), tail = e * u * polynomial(u, kTail);
  return {size < 1.0f ? near : x < 0.0f ? tail : 1.0f - tail, e * 0.3989422804f};
}

struct GeluTanh {
  static __device__ float value(float x) { return x * sigmoid(x * fmaf(x * x, kGelu3, kGelu1)); }
  static __device__ float slope(float x) {
    const float z = x * x, s = sigmoid(x * fmaf(z, kGelu3, kGelu1));
    return fmaf(x * fmaf(z, 3 * kGelu3, kGelu1), s * (1.0f - s), s);
  }
};
struct GeluErf {
  static __device__ float value(float x) { return x * normal(x).cdf; }
  static __device__ float slope(float x) {
    const Normal n = normal(x);
    return fmaf(x, n.density, n.cdf);
  }
};
struct QuickGelu {
  static __device__ float value(float x) { return x * sigmoid(x * 1.702f); }
  static __device__ float slope(float x) {
    const float z = x * 1.702f, s = sigmoid(z);
    return fmaf(z, s * (1.0f - s), s);
  }
};
struct Silu {
  static __device__ float value(float x) { return x * sigmoid(x); }
  static __device__ float slope(float x) {
    const float s = sigmoid(x);
    return fmaf(x, s * (1.0f - s), s);
  }
};
struct Relu {
  static __device__ float value(float x) { return x < 0.0f ? 0.0f : x; }  // NaN stays
  static __device__ float slope(float x) { return x > 0.0f ? 1.0f : 0.0f; }
};
struct Tanh {
  static __device__ float value(float x) { return tanhf(x); }
  // 1 - tanh^2 = 4 e / (1 + e)^2 with e = e^(-2 |x|), which does not cancel.
  static __device__ float slope(float x) {
    const float e = expf(fabsf(x) * -2.0f), d = e + 1.0f;
    return 4.0f * e / (d * d);
  }
};

template <class Body>
void dispatch_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kGeluTanh: return body.template operator()<GeluTanh>();
    case Activation::kGeluErf: return body.template operator()<GeluErf>();
    case Activation::kQuickGelu: return body.template operator()<QuickGelu>();
    case Activation::kRelu: return body.template operator()<Relu>();
    case Activation::kSilu: return body.template operator()<Silu>();
    case Activation::kTanh: return body.template operator()<Tanh>();
  }
}

template <class F, class T>
__global__ void __launch_bounds__(kThreads)
    activation_kernel(const T* x, T* y, int64_t count, bool aligned) {
  constexpr int N = 16 / sizeof(T);
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  Floats<N> v = load<N>(x + i, count - i, aligned);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = F::value(v[k]);
  store(y + i, v, count - i, aligned);
}

template <class F, class T>
__global__ void __launch_bounds__(kThreads)
    activation_grad_kernel(const T* x, const T* dy, T* dx, int64_t count, bool aligned) {
  constexpr int N = 16 / sizeof(T);
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  Floats<N> v = load<N>(x + i, count - i, aligned);
  const Floats<N> d = load<N>(dy + i, count - i, aligned);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = d[k] * F::slope(v[k]);
  store(dx + i, v, count - i, aligned);
}

template <class F, class T>
__global__ void __launch_bounds__(kThreads)
    gated_activation_kernel(GatedActivationArgs a, bool aligned) {
  constexpr int N = 16 / sizeof(T);
  const int64_t r = blockIdx.x, c = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  const int64_t left = a.channels - c;
  if (left <= 0) return;
  const int64_t at = r * a.stride + c;
  Floats<N> v = load<N>(static_cast<const T*>(a.gate) + at, left, aligned);
  const Floats<N> up = load<N>(static_cast<const T*>(a.up) + at, left, aligned);
#pragma unroll
  for (int k = 0; k < N; ++k) v[k] = F::value(v[k]) * up[k];
  store(static_cast<T*>(a.y) + r * a.channels + c, v, left, aligned);
}

template <class F, class T>
__global__ void __launch_bounds__(kThreads)
    gated_activation_grad_kernel(GatedActivationGradArgs a, bool aligned) {
  constexpr int N = 16 / sizeof(T);
  const int64_t r = blockIdx.x, c = (int64_t{blockIdx.y} * kThreads + threadIdx.x) * N;
  const int64_t left = a.channels - c;
  if (left <= 0) return;
  const int64_t at = r * a.stride + c, dat = r * a.dstride + c;
  Floats<N> gate = load<N>(static_cast<const T*>(a.gate) + at, left, aligned),
            up = load<N>(static_cast<const T*>(a.up) + at, left, aligned);
  const Floats<N> d = load<N>(static_cast<const T*>(a.dy) + r * a.channels + c, left, aligned);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float g = gate[k];
    gate[k] = d[k] * up[k] * F::slope(g);
    up[k] = d[k] * F::value(g);
  }
  store(static_cast<T*>(a.dgate) + dat, gate, left, aligned);
  store(static_cast<T*>(a.dup) + dat, up, left, aligned);
}

// A grid row for each row, 16 bytes a thread.
template <class T>
dim3 row_blocks_of(int64_t rows, int64_t channels) {
  return extent(rows, divide_up(channels, kThreads * static_cast<int64_t>(16 / sizeof(T))));
}

template <class T>
dim3 blocks_of(int64_t count) {
  return extent(divide_up(count, kThreads * static_cast<int64_t>(16 / sizeof(T))));
}

}  // namespace

void activation(const ActivationArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    dispatch_activation(a.activation, [&]<class F>() {
      launch("activation", activation_kernel<F, T>, blocks_of<T>(a.count), kThreads, 0,
             static_cast<const T*>(a.x), static_cast<T*>(a.y), a.count,
             aligned_for<16 / sizeof(T), T>(a.x, a.y));
    });
  });
}

void activation_grad(const ActivationGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    dispatch_activation(a.activation, [&]<class F>() {
      launch("activation_grad", activation_grad_kernel<F, T>, blocks_of<T>(a.count), kThreads, 0,
             static_cast<const T*>(a.x), static_cast<const T*>(a.dy), static_cast<T*>(a.dx),
             a.count, aligned_for<16 / sizeof(T), T>(a.x, a.dy, a.dx));
    });
  });
}

void gated_activation(const GatedActivationArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    constexpr int N = 16 / sizeof(T);
    const bool aligned =
        a.channels % N == 0 && a.stride % N == 0 && aligned_for<N, T>(a.gate, a.up, a.y);
    dispatch_activation(a.activation, [&]<class F>() {
      launch("gated_activation", gated_activation_kernel<F, T>,
             row_blocks_of<T>(a.rows, a.channels), kThreads, 0, a, aligned);
    });
  });
}

void gated_activation_grad(const GatedActivationGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>() {
    constexpr int N = 16 / sizeof(T);
    const bool aligned = a.channels % N == 0 && a.stride % N == 0 && a.dstride % N == 0 &&
                         aligned_for<N, T>(a.gate, a.up, a.dy, a.dgate, a.dup);
    dispatch_activation(a.activation, [&]<class F>() {
      launch("gated_activation_grad", gated_activation_grad_kernel<F, T>,
             row_blocks_of<T>(a.rows, a.channels), kThreads, 0, a, aligned);
    });
  });
}

}  // namespace tenon::cuda::TENON_SM
