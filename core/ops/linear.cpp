// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"

namespace tenon {
namespace {

// `matrix` (rows of `columns` elements) as an operand, transposed or as it lies.
MatrixOperand operand(const Tensor& matrix, int64_t columns, bool transposed = false) {
  return {
      .data = matrix.raw(), .stride = columns, .transposed = transposed, .dtype = matrix.dtype()};
}

struct Sizes {
  int64_t rows, in, out, rank;
};

Sizes check(const Tensor& x, const Tensor& weight, WeightLayout layout, const Tensor& bias,
            const LoraFactors* lora) {
  TENON_CHECK(weight.shape().rank() == 2, "[linear] a weight has two dims, got {}",
              weight.shape().text());
  const bool out_in = layout == WeightLayout::kOutIn;
  const int64_t in = weight.dim(out_in ? 1 : 0), out = weight.dim(out_in ? 0 : 1);
  TENON_CHECK(x.dim(-1) == in, "[linear] x {} does not fit weight {}", x.shape().text(),
              weight.shape().text());
  TENON_CHECK(!bias.defined() || (bias.numel() == out && bias.dtype() == DType::kF32),
              "[linear] bias {} for {} outputs", bias.shape().text(), out);
  int64_t rank = 0;
  if (lora != nullptr) {
    rank = lora->a.dim(0);
    TENON_CHECK(lora->a.dim(1) == in && lora->b.dim(0) == out && lora->b.dim(1) == rank,
                "[linear] adapter A {}, B {} beside weight {}", lora->a.shape().text(),
                lora->b.shape().text(), weight.shape().text());
  }
  return {x.numel() / in, in, out, rank};
}

Shape with_channels(const Shape& shape, int64_t channels) {
  switch (shape.rank()) {
    case 1: return {channels};
    case 2: return {shape[0], channels};
    case 3: return {shape[0], shape[1], channels};
    default: return {shape[0], shape[1], shape[2], channels};
  }
}

// c (+)= op(a) op(b), everything contiguous.
void product(const Tensor& c, MatrixOperand a, MatrixOperand b, int64_t m, int64_t n, int64_t k,
             float alpha = 1, bool accumulate = false) {
  kernels(c.device())
      .matmul({.a = a,
               .b = b,
               .c = c.raw(),
               .c_stride = n,
               .c_dtype = c.dtype(),
               .m = m,
               .n = n,
               .k = k,
               .alpha = alpha,
               .accumulate = accumulate});
}

// The gradients of weight and bias from x (rows, in) and dy (rows, out).
void weight_gradients(const Tensor& x, const Tensor& dy, WeightLayout layout, const Sizes& s,
                      const Tensor& dweight, const Tensor& dbias) {
  if (dweight.defined()) {
    if (layout == WeightLayout::kInOut) {
      product(dweight, operand(x, s.in, true), operand(dy, s.out), s.in, s.out, s.rows, 1, true);
    } else {
      product(dweight, operand(dy, s.out, true), operand(x, s.in), s.out, s.in, s.rows, 1, true);
    }
  }
  if (dbias.defined()) {
    kernels(dy.device())
        .column_sum({.x = dy.raw(),
                     .out = dbias.data<float>(),
                     .rows = s.rows,
                     .channels = s.out,
                     .dtype = dy.dtype()});
  }
}

Tensor dropped(const Tensor& x, const Dropout& dropout) {
  if (dropout.p == 0) return x;
  Tensor y = Tensor::empty_like(x);
  kernels(x.device())
      .dropout({.x = x.raw(),
                .y = y.raw(),
                .count = x.numel(),
                .p = dropout.p,
                .random = dropout.random,
                .position0 = dropout.position0,
                .dtype = x.dtype()});
  return y;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora) {
  const Sizes s = check(x, weight, layout, bias, lora);
  const LoraFactors adapter = lora != nullptr ? *lora : LoraFactors{};

  Tensor t;  // (rows, R): scale * dropout(x) A^T
  if (s.rank > 0) {
    t = Tensor::empty({s.rows, s.rank}, DType::kF32, x.device());
    product(t, operand(dropped(x, adapter.dropout), s.in), operand(adapter.a, s.in, true), s.rows,
            s.rank, s.in, adapter.scale);
  }
  Tensor y = Tensor::empty(with_channels(x.shape(), s.out), x.dtype(), x.device());  // (rows, out)
  kernels(x.device())
      .matmul({.a = operand(x, s.in),
               .b = operand(weight, weight.dim(1), layout == WeightLayout::kOutIn),
               .a2 = operand(t, s.rank),
               .b2 = operand(adapter.b, s.rank, true),
               .c = y.raw(),
               .c_stride = s.out,
               .c_dtype = y.dtype(),
               .m = s.rows,
               .n = s.out,
               .k = s.in,
               .k2 = s.rank,
               .bias = bias.data<float>()});

  const bool needs_x = recording({&weight, &adapter.a});  // frozen weights need only dy
  const Shape x_shape = x.shape();
  record("linear", {x, weight, bias, adapter.a, adapter.b}, {&y},
         [=, x = needs_x ? x.detach() : Tensor{}, weight = weight.detach(), dtype = x.dtype(),
          a = adapter.a.detach(), b = adapter.b.detach(), scale = adapter.scale,
          dropout = adapter.dropout](const std::vector<Tensor>& douts, Grads& grads) {
           const Tensor& dy = douts[0];
           Tensor u;  // (rows, R): scale * dY B
           if (s.rank > 0) {
             u = Tensor::empty({s.rows, s.rank}, DType::kF32, dy.device());
             product(u, operand(dy, s.out), operand(b, s.rank), s.rows, s.rank, s.out, scale);
             if (grads.wants(3)) {  // dA = U^T dropout(x)
               const Tensor xd = dropped(x, dropout);
               product(grads.sink(3), operand(u, s.rank, true), operand(xd, s.in), s.rank, s.in,
                       s.rows, 1, true);
             }
             if (grads.wants(4)) {  // dB = dY^T T
               product(grads.sink(4), operand(dy, s.out, true), operand(t, s.rank), s.out, s.rank,
                       s.rows, 1, true);
             }
           }
           weight_gradients(x, dy, layout, s, grads.sink(1), grads.sink(2));
           if (!grads.wants(0)) return;

           Tensor dx = Tensor::empty(x_shape, dtype,
                                     dy.device());  // [dY | U] [W ; A], or dY W + dropout(U A)
           const bool fused = dropout.p == 0;
           kernels(dy.device())
               .matmul({.a = operand(dy, s.out),
                        .b = operand(weight, weight.dim(1), layout == WeightLayout::kInOut),
                        .a2 = operand(fused ? u : Tensor{}, s.rank),
                        .b2 = operand(fused ? a : Tensor{}, s.in),
                        .c = dx.raw(),
                        .c_stride = s.in,
                        .c_dtype = dx.dtype(),
                        .m = s.rows,
                        .n = s.in,
                        .k = s.out,
                        .k2 = fused ? s.rank : 0});
           if (!fused && s.rank > 0) {
             Tensor through = Tensor::empty_like(dx);
             product(through, operand(u, s.rank), operand(a, s.in), s.rows, s.in, s.rank);
             kernels(dx.device())
                 .dropout({.x = through.raw(),
                           .add = dx.raw(),
                           .y = dx.raw(),
                           .count = dx.numel(),
                           .p = dropout.p,
                           .random = dropout.random,
                           .position0 = dropout.position0,
                           .dtype = dtype});
           }
           grads.add(0, dx);
         });
  return y;
}

Tensor logits(const Tensor& x, const Tensor& weight) {
  const int64_t in = x.dim(-1), rows = x.numel() / in, vocabulary = weight.dim(0);
  Tensor out = Tensor::empty({rows, vocabulary}, DType::kF32, x.device(), MemoryKind::kWorkspace);
  product(out, operand(x, in), operand(weight, in, true), rows, vocabulary, in);
  return out;
}

int32_t sample(const Tensor& logits, double temperature, int64_t top_k, double top_p,
               RandomStream random, uint64_t position) {
  Tensor token = Tensor::empty({1}, DType::kI32, logits.device());
  kernels(logits.device())
      .sample({.logits = logits.data<float>(),
               .token = token.data<int32_t>(),
               .vocabulary = logits.numel(),
               .top_k = top_k,
               .temperature = temperature,
               .top_p = top_p,
               .random = random,
               .position = position});
  return *token.to(Device::kCPU).data<int32_t>();
}

}  // namespace tenon
