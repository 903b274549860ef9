// SPDX-License-Identifier: Apache-2.0
// Computes    y = f(x) and dx = dy f'(x), elementwise. Four of the functions are x times a sigmoid.
// Layout      arrays of `count` elements of one dtype; y may be x, dx may be dy.
// Work split  pieces of 4096 elements.
// Numerics    fp32 with the functions of vec.h, rounded once on store.
// Traffic     reads 1 (gradient: 2) and writes 1 element for each element: bound by memory.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 4096;

// (1 + tanh u) / 2 = sigmoid(2 u), so GELU's tanh form is x sigmoid(2 u) with
// u = sqrt(2 / pi) (x + 0.044715 x^3).
constexpr float kGelu1 = 1.5957691216f, kGelu3 = 0.0713548163f;

struct GeluTanh {
  static Vec value(Vec x) {
    return x * sigmoid(x * fma(x * x, Vec::all(kGelu3), Vec::all(kGelu1)));
  }
  static Vec slope(Vec x) {
    const Vec z = x * x, s = sigmoid(x * fma(z, Vec::all(kGelu3), Vec::all(kGelu1)));
    return fma(x * fma(z, Vec::all(3 * kGelu3), Vec::all(kGelu1)), s * (Vec::all(1.0f) - s), s);
  }
};
struct GeluErf {
  static Vec value(Vec x) { return x * normal(x).cdf; }
  static Vec slope(Vec x) {
    const Normal n = normal(x);
    return fma(x, n.density, n.cdf);
  }
};
struct QuickGelu {
  static Vec value(Vec x) { return x * sigmoid(x * Vec::all(1.702f)); }
  static Vec slope(Vec x) {
    const Vec z = x * Vec::all(1.702f), s = sigmoid(z);
    return fma(z, s * (Vec::all(1.0f) - s), s);
  }
};
struct Silu {
  static Vec value(Vec x) { return x * sigmoid(x); }
  static Vec slope(Vec x) {
    const Vec s = sigmoid(x);
    return fma(x, s * (Vec::all(1.0f) - s), s);
  }
};
struct Relu {
  static Vec value(Vec x) { return max(Vec::zero(), x); }  // NaN stays
  static Vec slope(Vec x) { return select(less(Vec::zero(), x), Vec::all(1.0f), Vec::zero()); }
};
struct Tanh {
  static Vec value(Vec x) { return tanh(x); }
  // 1 - tanh^2 = 4 e / (1 + e)^2 with e = e^(-2 |x|), which does not cancel.
  static Vec slope(Vec x) {
    const Vec e = exp(abs(x) * Vec::all(-2.0f)), d = e + Vec::all(1.0f);
    return Vec::all(4.0f) * e / (d * d);
  }
};

template <class Body>
void dispatch_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kGeluTanh: return body(GeluTanh());
    case Activation::kGeluErf: return body(GeluErf());
    case Activation::kQuickGelu: return body(QuickGelu());
    case Activation::kRelu: return body(Relu());
    case Activation::kSilu: return body(Silu());
    case Activation::kTanh: return body(Tanh());
  }
}

template <class F, class T>
void apply(const T* x, T* y, int64_t count) {
  for_ranges(count, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes)
      F::value(Vec::load(x + i, end - i)).store(y + i, end - i);
  });
}

template <class F, class T>
void apply_grad(const T* x, const T* dy, T* dx, int64_t count) {
  for_ranges(count, kPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t left = end - i;
      (Vec::load(dy + i, left) * F::slope(Vec::load(x + i, left))).store(dx + i, left);
    }
  });
}

}  // namespace

void activation(const ActivationArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    dispatch_activation(a.activation, [&]<class F>(F) {
      apply<F>(static_cast<const T*>(a.x), static_cast<T*>(a.y), a.count);
    });
  });
}

void activation_grad(const ActivationGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    dispatch_activation(a.activation, [&]<class F>(F) {
      apply_grad<F>(static_cast<const T*>(a.x), static_cast<const T*>(a.dy), static_cast<T*>(a.dx),
                    a.count);
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
