// SPDX-License-Identifier: Apache-2.0
// OpenBLAS, where the machine has its library: it is opened when the benchmark runs, so a build needs
// nothing of it.
#include <dlfcn.h>
#include <stdlib.h>

#include <string>

#include "bench/machine.h"
#include "bench/peer.h"

namespace tenon::bench {
namespace {

// Of cblas.h; integers are 32 bits in libopenblas.so.0.
constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                       float alpha, const float* a, int lda, const float* b, int ldb, float beta,
                       float* c, int ldc);
using SetThreads = void (*)(int threads);
using Text = char* (*)();

// Debian's OpenBLAS takes a kernel on Intel's cores with AMX that runs at a quarter of the rate
// (78 GFLOP/s against 368-384 on two threads of Emerald Rapids).
void choose_core() {
  __builtin_cpu_init();
  if (__builtin_cpu_is("intel") && __builtin_cpu_supports("avx512bf16"))
    setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
}

template <class Function>
Function find(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

}  // namespace

std::optional<Peer> openblas_peer(int threads) {
  choose_core();
  // Its threads look for work for 2^28 clock cycles, a tenth of a second in which nobody else has
  // the cores for himself; 2^22 are a millisecond or two.
  setenv("OPENBLAS_THREAD_TIMEOUT", "22", 1);
  void* library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return {};
  const auto sgemm = find<Sgemm>(library, "cblas_sgemm");
  const auto set_threads = find<SetThreads>(library, "openblas_set_num_threads");
  const auto config = find<Text>(library, "openblas_get_config");
  const auto core = find<Text>(library, "openblas_get_corename");
  if (sgemm == nullptr || set_threads == nullptr || config == nullptr || core == nullptr) return {};
  set_threads(threads);
  Peer peer;
  peer.name = "OpenBLAS";
  const std::string full = config();  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..."
  peer.version = full.substr(0, full.find(' ', full.find(' ') + 1)) + " (" + core() + ")";
  peer.quiet = threads > 1 ? 0.01 : 0;
  peer.matmul = [sgemm](const MatmulArgs& args) -> std::function<void()> {
    if (!is_plain_product(args) || args.a.dtype != DType::kF32 || args.c_dtype != DType::kF32)
      return {};
    return [sgemm, args] {
      const auto number = [](int64_t value) { return static_cast<int>(value); };
      sgemm(kRowMajor, args.a.transposed ? kTransposed : kPlain,
            args.b.transposed ? kTransposed : kPlain, number(args.m), number(args.n),
            number(args.k), 1, static_cast<const float*>(args.a.data), number(args.a.stride),
            static_cast<const float*>(args.b.data), number(args.b.stride), 0,
            static_cast<float*>(args.c), number(args.c_stride));
    };
  };
  return peer;
}

}  // namespace tenon::bench
