// SPDX-License-Identifier: Apache-2.0
// matmul: which of the two ways to multiply a product takes.
#include "kernels/cpu/matmul.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

void multiply(const MatmulArgs& args, bool pairs) {
  if (args.m == 0 || args.n == 0) return;
  if (smaller(args.m, args.n) <= kFew) {
    matmul_few(args);
  } else {
    matmul_blocked(args, pairs);
  }
}

}  // namespace

void matmul(const MatmulArgs& args) { multiply(args, true); }
void matmul_widening(const MatmulArgs& args) { multiply(args, false); }

}  // namespace tenon::cpu::TENON_ISA
