// SPDX-License-Identifier: Apache-2.0
// An operand of matmul as those see it who read it: by rows of op(a), or columns of op(b), and along
// K.
#pragma once

#include <cstdint>

#include "core/kernel_table.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

// Element (i, p), i counting rows of op(a) or columns of op(b) and p along K.
struct Source {
  const void* data;
  int64_t stride;
  bool along_k;  // neighbours in memory are neighbours in K; otherwise in i
  DType dtype;
  const float* scales;  // of its stored rows, or null
  int64_t k;
  const FourBit* four_bit = nullptr;  // then `data` is in 4 bits, and only expand() reads it
  int64_t first_step = 0;             // the step of K that lies at `data`

  template <class T>
  const T* at(int64_t i, int64_t p) const {
    return static_cast<const T*>(data) +
           (along_k ? i * stride + p - first_step : (p - first_step) * stride + i);
  }
  // The scale of stored row r and of those that follow.
  const float* scale(int64_t r) const { return scales == nullptr ? nullptr : scales + r; }
};

inline Source left_source(const MatrixOperand& a, int64_t k) {
  return {a.data, a.stride, !a.transposed, a.dtype, a.scales, k, a.four_bit};
}
inline Source right_source(const MatrixOperand& b, int64_t k) {
  return {b.data, b.stride, b.transposed, b.dtype, b.scales, k, b.four_bit};
}

// Calls body(T()) with the type of an operand's elements.
template <class Body>
void dispatch_element(DType dtype, const Body& body) {
  if (dtype == DType::kI8) return body(int8_t());
  dispatch_float(dtype, body);
}

}  // namespace tenon::cpu::TENON_ISA
