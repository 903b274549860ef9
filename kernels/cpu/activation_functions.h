// SPDX-License-Identifier: Apache-2.0
// The functions of Activation and their derivatives, for the activation kernels and the epilogue of
// matmul. Four of them are x times a sigmoid.
#pragma once

#include "core/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// Within |x| <= far the exponent of the sigmoid is at most 126, and beyond the sigmoid is 0 or 1 to
// fp32: x times the sigmoid is then x or at most 2^-119. NaN stays.
inline Vec no_less(Vec x, float far) { return max(Vec::all(-far), x); }
inline Vec within(Vec x, float far) { return min(Vec::all(far), no_less(x, far)); }

// x / (1 + 2^-(kFactor x)).
template <class F>
struct TimesSigmoid {
  static Vec value(Vec x) {
    return no_less(x, F::kFar) * sigmoid_base_2(within(x, F::kFar) * Vec::all(F::kFactor)).s;
  }
  static Vec slope(Vec x) {
    x = within(x, F::kFar);
    const Sigmoid g = sigmoid_base_2(x * Vec::all(F::kFactor));
    return fma(x * Vec::all(F::kSlope), g.s * g.rest, g.s);
  }
};

// (1 + tanh u) / 2 = 1 / (1 + e^(-2 u)), so GELU's tanh form is x times that with
// u = sqrt(2 / pi) (x + 0.044715 x^3); to the base 2 the exponent is x (kGelu1 + kGelu3 x^2).
constexpr float kGelu1 = 2.3022082f, kGelu3 = 0.10294324f, kGeluFar = 10.0f;

struct GeluTanh {
  static Vec value(Vec x) {
    const Vec c = within(x, kGeluFar);
    const Vec y = c * fma(c * c, Vec::all(kGelu3), Vec::all(kGelu1));
    return no_less(x, kGeluFar) * sigmoid_base_2(y).s;
  }
  static Vec slope(Vec x) {
    x = within(x, kGeluFar);
    const Vec z = x * x;
    const Sigmoid g = sigmoid_base_2(x * fma(z, Vec::all(kGelu3), Vec::all(kGelu1)));
    const Vec slope = x * fma(z, Vec::all(0.2140644489f), Vec::all(1.5957691216f));  // of 2 u
    return fma(slope, g.s * g.rest, g.s);
  }
};
struct GeluErf {
  static constexpr float kFar = 13.2f;  // as in normal()
  static Vec value(Vec x) { return no_less(x, kFar) * normal(x).cdf; }
  static Vec slope(Vec x) {
    const Normal n = normal(x);
    return fma(within(x, kFar), n.density, n.cdf);
  }
};
struct QuickGelu : TimesSigmoid<QuickGelu> {
  static constexpr float kSlope = 1.702f, kFactor = 2.4554669596f, kFar = 51.0f;
};
struct Silu : TimesSigmoid<Silu> {
  static constexpr float kSlope = 1.0f, kFactor = 1.4426950409f, kFar = 87.0f;
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

// Calls body(F()) with the function of an activation.
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

}  // namespace tenon::cpu::TENON_ISA
