// SPDX-License-Identifier: Apache-2.0
// The epilogue of matmul: what turns a tile of sums into elements of c.
#pragma once

#include <cstdint>

#include "core/kernel_table.h"
#include "kernels/cpu/activation_functions.h"
#include "kernels/cpu/matmul_unit.h"

namespace tenon::cpu::TENON_ISA {

// v = alpha * sums + bias (+ base); what else there is to do with it, by the epilogue. Pointers are
// at the first element of the part of c that the sums make; null where absent.
template <class T>
struct Finish {
  float alpha = 1;
  const float* bias = nullptr;  // (columns)
  const T* base = nullptr;  // what v is added to: sums of earlier blocks, or c before the product
  Epilogue epilogue = Epilogue::kNone;
  Activation activation = Activation::kGeluTanh;
  T* pre = nullptr;
  const T* add = nullptr;
  T* c = nullptr;
  int64_t stride = 0;  // between the rows of base, pre, add and c
};

// One vector of a row, at `at` of the arrays, `left` elements left in the row.
template <class T, class F>
void finish_vector(const Finish<T>& f, Vec v, int64_t at, int64_t left) {
  if (f.epilogue == Epilogue::kActivation) {
    if (f.pre != nullptr) store_some(v, f.pre + at, left);
    v = F::value(rounded_to<T>(v));
  } else if (f.epilogue == Epilogue::kActivationGrad) {
    v = v * F::slope(load_some(static_cast<const T*>(f.pre) + at, left));
  }
  if (f.add != nullptr) v = v + load_some(f.add + at, left);
  store_some(v, f.c + at, left);
}

template <class T, class F>
void finish_rows(const Finish<T>& f, const float* sums, int64_t sums_stride, int64_t rows,
                 int64_t columns) {
  const Vec factor = Vec::all(f.alpha);
  for (int64_t j = 0; j < columns; j += kLanes) {
    const int64_t left = columns - j;
    const Vec shift = f.bias != nullptr ? load_some(f.bias + j, left) : Vec::zero();
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = i * f.stride + j;
      const Vec base = f.base != nullptr ? load_some(f.base + at, left) + shift : shift;
      finish_vector<T, F>(f, fma(factor, Vec::load(sums + i * sums_stride + j), base), at, left);
    }
  }
}

// Rows of the sums are padded to whole vectors.
template <class T>
void finish(const Finish<T>& f, const float* sums, int64_t sums_stride, int64_t rows,
            int64_t columns) {
  if (f.epilogue == Epilogue::kNone) {
    finish_rows<T, Relu>(f, sums, sums_stride, rows, columns);  // the function is not used
    return;
  }
  dispatch_activation(f.activation,
                      [&]<class F>(F) { finish_rows<T, F>(f, sums, sums_stride, rows, columns); });
}

}  // namespace tenon::cpu::TENON_ISA
