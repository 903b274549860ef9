// SPDX-License-Identifier: Apache-2.0
// Eigen's product, in a library of its own: it is compiled for AVX-512, and nothing else may take
// an inline function from it.
#pragma once

#include <cstdint>

#pragma GCC visibility push(default)
extern "C" {

struct EigenOperand {
  const float* data;
  int64_t stride;
  bool transposed;
};

// c = op(a) op(b), all row-major: (m, k) (k, n) -> (m, n). Requires: the CPU has AVX-512.
void tenon_eigen_product(EigenOperand a, EigenOperand b, float* c, int64_t c_stride, int64_t m,
                         int64_t n, int64_t k);
void tenon_eigen_threads(int threads);
const char* tenon_eigen_version();  // "Eigen 3.4.0"
}
#pragma GCC visibility pop
