// SPDX-License-Identifier: Apache-2.0
// What packed panels are made of: units of 32 bits, each one or more steps of K, that one
// instruction multiplies lane by lane and adds up in fp32. A unit is loaded from any operand, either
// way round:
//   Rows, Columns                      how units of op(a) and of op(b) are loaded, by
//     along(x, steps, scale)           kLanes units of one stored row, `steps` elements left in it
//     across(x, stride, steps, left,   one unit of each of `left` neighbours, K going from stored
//            scales)                   row to stored row, `steps` of them left
//   dot(x, y, sum)                     sum + the products of the steps of x and y
//   kBytes                             whether they are of int8 alone, which runs along K
//   kWholeNumbers                      whether sums are whole numbers: they begin with what correct()
//                                      has put in front of a panel of columns, and result() is
//                                      them as floats, still to be multiplied by the scales of
//                                      their row and column
#pragma once

#include <cstdint>

#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

template <class T>
Vec load_some(const T* p, int64_t left) {
  return left >= kLanes ? Vec::load(p) : Vec::load(p, left);
}

template <class T>
void store_some(Vec v, T* p, int64_t left) {
  if (left >= kLanes) {
    v.store(p);
  } else {
    v.store(p, left);
  }
}

// One step of K, widened to fp32.
struct FloatUnit {
  static constexpr int64_t kSteps = 1;
  static constexpr bool kBytes = false, kWholeNumbers = false;
  using Rows = FloatUnit;
  using Columns = FloatUnit;

  template <class T>
  static Vec along(const T* x, int64_t steps, float scale) {
    const Vec v = load_some(x, steps);
    return sizeof(T) == 1 ? v * Vec::all(scale) : v;
  }
  template <class T>
  static Vec across(const T* x, int64_t, int64_t, int64_t left, const float* scales) {
    const Vec v = load_some(x, left);
    return sizeof(T) == 1 && scales != nullptr ? v * Vec::all(*scales) : v;
  }
  static Vec dot(Vec x, Vec y, Vec sum) { return fma(x, y, sum); }
  static Vec result(Vec sum) { return sum; }
};

}  // namespace tenon::cpu::TENON_ISA

#include TENON_ISA_DOT
