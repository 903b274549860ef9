// SPDX-License-Identifier: Apache-2.0
// Computes    c = epilogue(alpha * (op(a) op(b) + op(a2) op(b2)) + bias) + add, and t where wanted.
// Layout      any dtypes, either way round.
// Work split  between cuBLASLt and our kernel (matmul_tile.cu). The library multiplies large
//             operands of one type; other operands are cast to it first. Ours takes what the
//             library cannot. Both can have few rows or columns, and two pairs (two products for
//             the library, the small one first): there, the faster one is found by timing.
// Numerics    operands are multiplied in one type, chosen by product_type below; fp32 sums (never
//             TF32). One rounding to the dtype of c. The library's way adds two: the bias is
//             rounded to the dtype of c first, as in PyTorch (cuBLASLt adds no other), and of two
//             pairs the second result is stored in c before the first is added: smaller by far, so
//             that its rounding is too.
// Traffic     2 m n k operations; a cast reads and writes its operand once more.
#include <stdexcept>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/matmul_tile.cuh"

namespace tenon::cuda::TENON_SM {
namespace {

// Without timing, two pairs with fewer products m n k than this are ours. Not measured: at 2^24 the
// second launch and the second pass over c weigh about as much as the product.
constexpr int64_t kFewProducts = int64_t{1} << 24;

// A half type that all operands have, or that `precision` allows to round the fp32 ones among them
// to (an fp32 adapter or master weight beside half activations, the fp32 gradient of logits beside a
// half head; in fp16 such a gradient may overflow to infinity, which the loss scaler then sees as it
// sees any other). Else, and where the card has no tensor cores for the type, everything is widened
// to fp32 without loss.
DType product_type(const MatmulArgs& args) {
  DType type = args.precision == DType::kF32 ? args.a.dtype : args.precision;
  const auto fits = [&](const MatrixOperand& x) {
    return x.dtype == type || (x.dtype == DType::kF32 && type == args.precision);
  };
  const bool one_type =
      fits(args.a) && fits(args.b) && (args.k2 == 0 || (fits(args.a2) && fits(args.b2)));
  const bool has_cores = type != DType::kBF16 || kHasBf16Mma;
  return one_type && has_cores ? type : DType::kF32;
}

// c = alpha * op(a) op(b) + bias for one pair, by the library.
bool multiply_pair(const MatmulArgs& args, const MatrixOperand& a, const MatrixOperand& b,
                   int64_t k, DType type, const float* bias, bool accumulate) {
  return multiply_by_library({.a = cast_operand(a, args.m, k, type, kCastA),
                              .b = cast_operand(b, k, args.n, type, kCastB),
                              .c = args.c,
                              .c_stride = args.c_stride,
                              .c_dtype = args.c_dtype,
                              .m = args.m,
                              .n = args.n,
                              .k = k,
                              .alpha = args.alpha,
                              .bias = cast_bias(bias, args.n, args.c_dtype),
                              .accumulate = accumulate});
}

// The library's way. False where it has none, and then c is as it was.
bool multiply_pairs(const MatmulArgs& args, DType type) {
  if (args.k == 0 || (args.c_dtype != DType::kF32 && args.c_dtype != type)) return false;
  const bool two = args.k2 > 0;
  if (two && !multiply_pair(args, args.a2, args.b2, args.k2, type, nullptr, args.accumulate)) {
    return false;
  }
  if (multiply_pair(args, args.a, args.b, args.k, type, args.bias, two || args.accumulate)) {
    return true;
  }
  if (!two) return false;
  MatmulArgs first = args;  // the second pair is in c already
  first.k2 = 0;
  first.accumulate = true;
  multiply_by_tiles(first, type);
  return true;
}

ProblemKey key_of(const MatmulArgs& args, DType type) {
  ProblemKey key = {args.m,
                    args.n,
                    args.k,
                    args.k2,
                    static_cast<int64_t>(type),
                    static_cast<int64_t>(args.c_dtype),
                    args.c_stride,
                    args.bias != nullptr,
                    args.accumulate};
  size_t at = 9;
  for (const MatrixOperand* x : {&args.a, &args.b, &args.a2, &args.b2}) {
    key[at++] = static_cast<int64_t>(x->dtype) * 2 + (x->transposed ? 1 : 0);
    key[at++] = alignment_of(x->data) >= 16 && x->stride * size_of(x->dtype) % 16 == 0;
  }
  return key;
}

bool own_is_better(const MatmulArgs& args, DType type) {
  const bool few = smaller(args.m, args.n) <= kFew;
  if (args.k2 == 0 && !few) return false;
  if (!timed()) return few || args.m * args.n * (args.k + args.k2) < kFewProducts;
  MatmulArgs trial = args;
  trial.c = timed_result(args.c, args.m * args.c_stride * size_of(args.c_dtype), args.accumulate);
  return own_is_faster(
      key_of(args, type), [&] { multiply_by_tiles(trial, type); },
      [&] {
        if (!multiply_pairs(trial, type)) multiply_by_tiles(trial, type);
      });
}

void multiply(const MatmulArgs& args) {
  const DType type = product_type(args);
  const MatmulPath path = matmul_path();
  const bool own =
      path == MatmulPath::kOwn || (path == MatmulPath::kAutomatic && own_is_better(args, type));
  if (own || !multiply_pairs(args, type)) multiply_by_tiles(args, type);
}

// What else there is to do with c, by kernels of their own. Rows of c that do not touch are done one
// by one.
void finish(const MatmulArgs& args) {
  const bool dense = args.c_stride == args.n;
  const int64_t runs = dense ? 1 : args.m, count = dense ? args.m * args.n : args.n;
  const int64_t step = args.c_stride * size_of(args.c_dtype);
  for (int64_t r = 0; r < runs; ++r) {
    char* c = static_cast<char*>(args.c) + r * step;
    char* pre = args.pre == nullptr ? c : static_cast<char*>(args.pre) + r * step;
    if (args.epilogue == Epilogue::kActivation) {
      activation(
          {.x = pre, .y = c, .count = count, .activation = args.activation, .dtype = args.c_dtype});
    } else if (args.epilogue == Epilogue::kActivationGrad) {
      activation_grad({.x = pre,
                       .dy = c,
                       .dx = c,
                       .count = count,
                       .activation = args.activation,
                       .dtype = args.c_dtype});
    }
    if (args.add == nullptr) continue;
    add({.a = c,
         .b = static_cast<const char*>(args.add) + r * step,
         .y = c,
         .count = count,
         .dtype = args.c_dtype});
  }
}

}  // namespace

void matmul(const MatmulArgs& args) {
  if (args.m == 0 || args.n == 0) return;
  MatmulArgs product = args;
  for (const MatrixOperand* x : {&args.a, &args.b, &args.a2, &args.b2, &args.down}) {
    if (x->dtype == DType::kI8) throw std::runtime_error("int8 operands are for the CPU");
  }
  if (args.t != nullptr && args.k2 > 0) {
    MatmulArgs first;
    first.a = args.a;
    first.b = args.down;
    first.c = args.t;
    first.c_stride = args.k2;
    first.m = args.m;
    first.n = args.k2;
    first.k = args.k;
    first.alpha = args.down_alpha;
    first.precision = args.precision;
    multiply(first);
    product.a2 = {.data = args.t, .stride = args.k2};
  }
  if (args.epilogue == Epilogue::kActivation && args.pre != nullptr) product.c = args.pre;
  multiply(product);
  if (args.epilogue != Epilogue::kNone || args.add != nullptr) finish(args);
}

}  // namespace tenon::cuda::TENON_SM
