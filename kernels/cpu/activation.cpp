// SPDX-License-Identifier: Apache-2.0
// Computes    y = f(x) and dx = dy f'(x), elementwise; gated: y = f(gate) up,
//             dgate = dy up f'(gate) and dup = dy f(gate).
// Layout      arrays of `count` elements of one dtype; y may be x, dx may be dy. gate and up are
//             rows that lie `stride` apart, their gradients `dstride`.
// Work split  pieces of 32768 elements, or of whole rows with about as many.
// Numerics    fp32 with the functions of vec.h, rounded once on store.
// Traffic     reads 1 (gradient: 2; gated: 2 and 3) and writes 1 element for each element (gradient
//             of gated: 2): bound by memory.
#include "kernels/cpu/activation_functions.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/map.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 32768;

// Runs body(r) for each row, about kPiece elements of one row or more rows at a time.
template <class Body>
void for_rows(int64_t rows, int64_t channels, const Body& body) {
  for_ranges(rows, larger(1, kPiece / larger(1, channels)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) body(r);
  });
}

struct Gradients {
  Vec dgate, dup;
};
template <class F>
Gradients gated_grad(Vec gate, Vec up, Vec dy) {
  return {dy * up * F::slope(gate), dy * F::value(gate)};
}

template <bool stream, class F, class T>
[[gnu::flatten]] void gated_grad_row(const T* gate, const T* up, const T* dy, T* dgate, T* dup,
                                     int64_t channels, int64_t ahead) {
  int64_t c = 0;
  for (; c + 2 * kLanes <= channels; c += 2 * kLanes) {
    prefetch_pair(gate + ahead + c);
    prefetch_pair(up + ahead + c);
    prefetch_pair(dy + channels + c);
    const VecPair g = VecPair::load(gate + c), u = VecPair::load(up + c), d = VecPair::load(dy + c);
    const Gradients first = gated_grad<F>(g.first, u.first, d.first),
                    second = gated_grad<F>(g.second, u.second, d.second);
    put<stream>(VecPair{first.dgate, second.dgate}, dgate + c);
    put<stream>(VecPair{first.dup, second.dup}, dup + c);
  }
  for (; c < channels; c += kLanes) {
    const int64_t left = channels - c;
    const Gradients grad =
        gated_grad<F>(Vec::load(gate + c, left), Vec::load(up + c, left), Vec::load(dy + c, left));
    grad.dgate.store(dgate + c, left);
    grad.dup.store(dup + c, left);
  }
  if (stream) finish_streams();
}

}  // namespace

void activation(const ActivationArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    dispatch_activation(a.activation, [&]<class F>(F) {
      map_pieces([](Vec x) { return F::value(x); }, static_cast<T*>(a.y), a.count,
                 static_cast<const T*>(a.x));
    });
  });
}

void activation_grad(const ActivationGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    dispatch_activation(a.activation, [&]<class F>(F) {
      map_pieces([](Vec x, Vec dy) { return dy * F::slope(x); }, static_cast<T*>(a.dx), a.count,
                 static_cast<const T*>(a.x), static_cast<const T*>(a.dy));
    });
  });
}

void gated_activation(const GatedActivationArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const T *gate = static_cast<const T*>(a.gate), *up = static_cast<const T*>(a.up);
    T* y = static_cast<T*>(a.y);
    const bool stream = rows_past_caches(y, a.rows, a.channels * static_cast<int64_t>(sizeof(T)));
    dispatch_activation(a.activation, [&]<class F>(F) {
      const auto f = [](Vec g, Vec u) { return F::value(g) * u; };
      const int64_t ahead = a.stride == a.channels ? 0 : a.stride;  // to the next row
      for_rows(a.rows, a.channels, [&](int64_t r) {
        const T *g = gate + r * a.stride, *u = up + r * a.stride;
        if (stream) {
          map<true>(f, y + r * a.channels, a.channels, ahead, g, u);
        } else {
          map<false>(f, y + r * a.channels, a.channels, ahead, g, u);
        }
      });
    });
  });
}

void gated_activation_grad(const GatedActivationGradArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const T *gate = static_cast<const T*>(a.gate), *up = static_cast<const T*>(a.up);
    const T* dy = static_cast<const T*>(a.dy);
    T *dgate = static_cast<T*>(a.dgate), *dup = static_cast<T*>(a.dup);
    constexpr int64_t kSize = sizeof(T);
    const bool stream = dgate != gate && dup != up && a.dstride * kSize % 64 == 0 &&
                        rows_past_caches(dgate, a.rows, a.channels * kSize) &&
                        rows_past_caches(dup, a.rows, a.channels * kSize);
    dispatch_activation(a.activation, [&]<class F>(F) {
      const auto row = stream ? gated_grad_row<true, F, T> : gated_grad_row<false, F, T>;
      for_rows(a.rows, a.channels, [&](int64_t r) {
        row(gate + r * a.stride, up + r * a.stride, dy + r * a.channels, dgate + r * a.dstride,
            dup + r * a.dstride, a.channels, a.stride);
      });
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
