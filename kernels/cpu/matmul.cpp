// SPDX-License-Identifier: Apache-2.0
// matmul: which of the two ways to multiply a product takes.
#include "kernels/cpu/matmul.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul_expand.h"
#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int kExpandedSlot = 4;  // also of sums over pieces, within which nothing is multiplied

// Few rows or columns in 4 bits, as fp32: (rows, columns) is op(x).
MatrixOperand expanded(const MatrixOperand& x, int64_t rows, int64_t columns) {
  if (x.four_bit == nullptr) return x;
  const int64_t stored = x.transposed ? columns : rows, width = x.transposed ? rows : columns;
  float* out = static_cast<float*>(thread_scratch(kExpandedSlot, larger(stored * width, 1) * 4));
  expand(left_source(x, width), 0, stored, 0, width, out, width);
  return {.data = out, .stride = width, .transposed = x.transposed};
}

void multiply(const MatmulArgs& args, bool pairs) {
  if (args.m == 0 || args.n == 0) return;
  if (smaller(args.m, args.n) > kFew) return matmul_blocked(args, pairs);
  if (args.a.four_bit != nullptr || args.b.four_bit != nullptr) {
    const bool columns = args.m > kAlikeRows;  // are few
    const MatrixOperand few = columns ? args.b : args.a;
    if (few.four_bit != nullptr) {
      MatmulArgs dense = args;
      (columns ? dense.b : dense.a) =
          columns ? expanded(few, args.k, args.n) : expanded(few, args.m, args.k);
      return multiply(dense, pairs);
    }
  }
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
