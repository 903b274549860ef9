// SPDX-License-Identifier: Apache-2.0
// Products by cuBLASLt. The library is loaded at the first product, so that a program built with
// CUDA starts where there is none. Which of its algorithms runs is settled once for each problem:
// the fastest of its first candidates, or its first one (matmul_choice.h).
#pragma once

#include <cublasLt.h>

#include "core/kernel_table.h"

namespace tenon::cuda {

// The functions of the library that are used, under their names without "cublasLt".
#define TENON_CUBLASLT(X)         \
  X(Create)                       \
  X(Matmul)                       \
  X(MatmulAlgoGetHeuristic)       \
  X(MatmulDescCreate)             \
  X(MatmulDescDestroy)            \
  X(MatmulDescSetAttribute)       \
  X(MatmulPreferenceCreate)       \
  X(MatmulPreferenceDestroy)      \
  X(MatmulPreferenceSetAttribute) \
  X(MatrixLayoutCreate)           \
  X(MatrixLayoutDestroy)

struct CublasLt {
#define X(name) decltype(&::cublasLt##name) name;
  TENON_CUBLASLT(X)
#undef X
};

// Fills the table from libcublasLt (cublaslt_load.cpp). Throws Error(kEnvironment) where there is
// none.
CublasLt load_cublaslt();

// c = alpha * op(a) op(b) + bias, or that added to c.
struct LibraryProduct {
  MatrixOperand a;    // op(a): (m, k)
  MatrixOperand b;    // op(b): (k, n), of a's dtype
  void* c = nullptr;  // (m, n), rows `c_stride` apart
  int64_t c_stride = 0;
  DType c_dtype = DType::kF32;  // fp32 or a's
  int64_t m = 0, n = 0, k = 0;
  float alpha = 1.0f;
  const void* bias = nullptr;  // (n) of c_dtype; the library knows no other
  bool accumulate = false;
};

// Queues the product on stream(), with sums in fp32 (and no TF32). Returns false, with nothing
// queued, where the library has no algorithm for it: then an operand is not aligned as all of its
// algorithms want. Requires: no extent is 0.
bool multiply_by_library(const LibraryProduct& product);

}  // namespace tenon::cuda
