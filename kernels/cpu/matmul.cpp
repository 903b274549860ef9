// SPDX-License-Identifier: Apache-2.0
// matmul: which of the two ways to multiply a product takes.
#include "kernels/cpu/matmul.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

void multiply(const MatmulArgs& args, bool pairs) {
  if (args.m == 0 || args.n == 0) return;
  if (smaller(args.m, args.n) > kFew) return matmul_blocked(args, pairs);
  if (args.t == nullptr) return matmul_few(args);
  multiply({.a = args.a,
            .b = args.down,
            .c = args.t,
            .c_stride = args.k2,
            .m = args.m,
            .n = args.k2,
            .k = args.k,
            .alpha = args.down_alpha,
            .precision = args.precision},
           pairs);
  MatmulArgs with_t = args;
  with_t.a2 = {.data = args.t, .stride = args.k2};
  with_t.t = nullptr;
  matmul_few(with_t);
}

}  // namespace

void matmul(const MatmulArgs& args) { multiply(args, true); }
void matmul_widening(const MatmulArgs& args) { multiply(args, false); }

}  // namespace tenon::cpu::TENON_ISA
