// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>

#include "core/error.h"
#include "kernels/cuda/cublaslt.h"

namespace tenon::cuda {
namespace {

// The interface is compatible within a major version.
#if CUBLAS_VER_MAJOR == 13
constexpr const char* kLibrary = "libcublasLt.so.13";
#elif CUBLAS_VER_MAJOR == 12
constexpr const char* kLibrary = "libcublasLt.so.12";
#else
#error "expected the cuBLASLt of CUDA 12 or 13"
#endif

template <class Function>
void find(void* library, const char* name, Function& function) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) fail(Exit::kEnvironment, "[cuda] {} has no {}", kLibrary, name);
  function = reinterpret_cast<Function>(symbol);
}

}  // namespace

CublasLt load_cublaslt() {
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fail(Exit::kEnvironment,
         "[cuda] cannot load {}: install the cuBLAS of CUDA {} or name its folder in "
         "LD_LIBRARY_PATH ({})",
         kLibrary, CUBLAS_VER_MAJOR, printable(dlerror()));
  }
  CublasLt functions;
#define X(name) find(library, "cublasLt" #name, functions.name);
  TENON_CUBLASLT(X)
#undef X
  return functions;
}

}  // namespace tenon::cuda
