// SPDX-License-Identifier: Apache-2.0
// Takes the place of kernels/cuda/cublaslt_load.cpp: the stand-in is linked, not loaded.
#include "kernels/cuda/cublaslt.h"

namespace tenon::cuda {

CublasLt load_cublaslt() {
  CublasLt functions;
#define X(name) functions.name = ::cublasLt##name;
  TENON_CUBLASLT(X)
#undef X
  return functions;
}

}  // namespace tenon::cuda
