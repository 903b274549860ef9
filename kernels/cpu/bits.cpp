// SPDX-License-Identifier: Apache-2.0
// Computes    a bit for each element, whether it is positive; and elements where such a bit is set.
// Layout      arrays of `count` elements, bits 8 a byte, the first in the lowest.
// Work split  pieces of 32768 elements.
// Numerics    on the elements' own bits: exact.
// Traffic     each array once: bound by memory.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kPiece = 32768;

// The elements as whole numbers: from 1 to that of infinity they are positive and no NaN.
template <class T>
struct Bits;
template <>
struct Bits<float> {
  using Number = uint32_t;
  static constexpr Number kInfinity = 0x7F800000;
};
template <>
struct Bits<BF16> {
  using Number = uint16_t;
  static constexpr Number kInfinity = 0x7F80;
};
template <>
struct Bits<F16> {
  using Number = uint16_t;
  static constexpr Number kInfinity = 0x7C00;
};

template <class T>
bool is_positive(typename Bits<T>::Number x) {
  return static_cast<typename Bits<T>::Number>(x - 1) < Bits<T>::kInfinity;
}

}  // namespace

void positive_bits(const PositiveBitsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    const auto* x = static_cast<const typename Bits<T>::Number*>(a.x);
    for_ranges(a.count, kPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += 8) {
        unsigned byte = 0;
        const int64_t left = smaller(8, end - i);
        if (left == 8) {
          for (unsigned k = 0; k < 8; ++k) byte |= unsigned{is_positive<T>(x[i + k])} << k;
        } else {
          for (int64_t k = 0; k < left; ++k) byte |= unsigned{is_positive<T>(x[i + k])} << k;
        }
        a.bits[i / 8] = static_cast<uint8_t>(byte);
      }
    });
  });
}

void select_bits(const SelectBitsArgs& a) {
  dispatch_float(a.dtype, [&]<class T>(T) {
    using Number = typename Bits<T>::Number;
    const auto* x = static_cast<const Number*>(a.x);
    auto* y = static_cast<Number*>(a.y);
    for_ranges(a.count, kPiece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += 8) {
        const unsigned byte = a.bits[i / 8];
        const int64_t left = smaller(8, end - i);
        for (int64_t k = 0; k < left; ++k)
          y[i + k] = static_cast<Number>(x[i + k] & (0 - (byte >> k & 1)));
      }
    });
  });
}

}  // namespace tenon::cpu::TENON_ISA
