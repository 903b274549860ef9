// SPDX-License-Identifier: Apache-2.0
#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/launches.h"

namespace tenon {
namespace {

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

// The gradients of weight and bias from x (rows, in) and dy (rows, out).
void weight_gradients(const Tensor& x, const Tensor& dy, WeightLayout layout, const Sizes& s,
                      const Tensor& dweight, const Tensor& dbias) {
  if (dweight.defined()) {
    if (layout == WeightLayout::kInOut) {
      product(dweight, operand(x, s.in, true), operand(dy, s.out), s.in, s.out, s.rows, x.dtype(),
              1, true);
    } else {
      product(dweight, operand(dy, s.out, true), operand(x, s.in), s.out, s.in, s.rows, x.dtype(),
              1, true);
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

// What backward needs of a linear's input.
struct Input {
  Tensor x;  // undefined where every weight is frozen
  Tensor v;  // where x = f(v)
  Activation kind;
  Shape shape;
};

// dx = [dY | U] [W ; A], and U = scale dY B in the same pass over dY; with dropout dY W +
// dropout(U A). Where x = f(v), dv = dx f'(v).
Tensor input_gradient(const Tensor& dy, const Tensor& weight, WeightLayout layout, const Sizes& s,
                      const LoraFactors& lora, const Tensor& u, const Input& input) {
  const DType dtype = dy.dtype();
  Tensor dx = Tensor::empty(input.shape, dtype, dy.device());
  const bool drops = s.rank > 0 && lora.dropout.p != 0, fused = s.rank > 0 && !drops;
  MatmulArgs args = {.a = operand(dy, s.out),
                     .b = operand(weight, weight.dim(1), layout == WeightLayout::kInOut),
                     .c = dx.raw(),
                     .c_stride = s.in,
                     .c_dtype = dtype,
                     .m = s.rows,
                     .n = s.in,
                     .k = s.out,
                     .precision = dtype};
  if (input.v.defined() && !drops) {
    args.epilogue = Epilogue::kActivationGrad;
    args.activation = input.kind;
    args.pre = input.v.raw();
  }
  if (fused) {
    args.b2 = operand(lora.a, s.in);
    args.k2 = s.rank;
    args.down = operand(lora.b, s.rank);
    args.t = u.data<float>();
    args.down_alpha = lora.scale;
  }
  kernels(dy.device()).matmul(args);
  if (!drops) return dx;
  product(u, operand(dy, s.out), operand(lora.b, s.rank), s.rows, s.rank, s.out, dtype, lora.scale);
  const Tensor through = Tensor::empty_like(dx);
  product(through, operand(u, s.rank), operand(lora.a, s.in), s.rows, s.in, s.rank, dtype);
  apply_dropout(through, lora.dropout, dx, dx);
  if (input.v.defined()) {
    kernels(dx.device())
        .activation_grad({.x = input.v.raw(),
                          .dy = dx.raw(),
                          .dx = dx.raw(),
                          .count = dx.numel(),
                          .activation = input.kind,
                          .dtype = dtype});
  }
  return dx;
}

// linear of x, which is f(v) where `v` is defined; where `activated` is given the result is only v
// there, and f of it goes to `activated->value`.
Tensor linear_of(const Tensor& x, const Tensor& v, Activation kind, const Tensor& weight,
                 WeightLayout layout, const Tensor& bias, const LoraFactors* lora,
                 Activated* activated) {
  const Sizes s = check(x, weight, layout, bias, lora);
  const LoraFactors adapter = lora != nullptr ? *lora : LoraFactors{};
  const DType dtype = x.dtype();
  const bool drops = adapter.dropout.p != 0;

  const Shape shape = with_channels(x.shape(), s.out);
  Tensor y;  // (rows, out)
  if (activated == nullptr || current_tape() != nullptr)
    y = Tensor::empty(shape, dtype, x.device());
  MatmulArgs args = {.a = operand(x, s.in),
                     .b = operand(weight, weight.dim(1), layout == WeightLayout::kOutIn),
                     .c = y.raw(),
                     .c_stride = s.out,
                     .c_dtype = dtype,
                     .m = s.rows,
                     .n = s.out,
                     .k = s.in,
                     .bias = bias.data<float>(),
                     .precision = dtype};
  if (activated != nullptr) {
    activated->value = Tensor::empty(shape, dtype, x.device());
    args.epilogue = Epilogue::kActivation;
    args.activation = activated->kind;
    args.c = activated->value.raw();
    args.pre = y.raw();
  }
  Tensor t;  // (rows, R): scale * dropout(x) A^T
  if (s.rank > 0) {
    t = Tensor::empty({s.rows, s.rank}, DType::kF32, x.device());
    args.b2 = operand(adapter.b, s.rank, true);
    args.k2 = s.rank;
    if (drops) {
      product(t, operand(dropped(x, adapter.dropout), s.in), operand(adapter.a, s.in, true), s.rows,
              s.rank, s.in, dtype, adapter.scale);
      args.a2 = operand(t, s.rank);
    } else {
      args.down = operand(adapter.a, s.in, true);
      args.t = t.data<float>();
      args.down_alpha = adapter.scale;
    }
  }
  kernels(x.device()).matmul(args);

  const bool needs_x = recording({&weight, &adapter.a});  // frozen weights need only dy
  const Input input = {needs_x ? x.detach() : Tensor{}, v.detach(), kind, x.shape()};
  record("linear", {v.defined() ? v : x, weight, bias, adapter.a, adapter.b}, {&y},
         [=, weight = weight.detach(), a = adapter.a.detach(), b = adapter.b.detach(),
          scale = adapter.scale,
          dropout = adapter.dropout](const std::vector<Tensor>& douts, Grads& grads) {
           const Tensor& dy = douts[0];
           Tensor u;  // (rows, R): scale * dY B
           if (s.rank > 0) u = Tensor::empty({s.rows, s.rank}, DType::kF32, dy.device());
           if (grads.wants(0)) {
             grads.add(0, input_gradient(dy, weight, layout, s, {a, b, scale, dropout}, u, input));
           } else if (s.rank > 0) {
             product(u, operand(dy, s.out), operand(b, s.rank), s.rows, s.rank, s.out, dtype,
                     scale);
           }
           weight_gradients(input.x, dy, layout, s, grads.sink(1), grads.sink(2));
           if (grads.wants(3)) {  // dA = U^T dropout(x)
             const Tensor xd = dropped(input.x, dropout);
             product(grads.sink(3), operand(u, s.rank, true), operand(xd, s.in), s.rank, s.in,
                     s.rows, dtype, 1, true);
           }
           if (grads.wants(4)) {  // dB = dY^T T
             product(grads.sink(4), operand(dy, s.out, true), operand(t, s.rank), s.out, s.rank,
                     s.rows, dtype, 1, true);
           }
         });
  return y;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora) {
  return linear_of(x, {}, Activation::kGeluTanh, weight, layout, bias, lora, nullptr);
}

Tensor linear(const Activated& x, const Tensor& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora) {
  return linear_of(x.value, x.v, x.kind, weight, layout, bias, lora, nullptr);
}

Activated linear_activation(const Tensor& x, const Tensor& weight, WeightLayout layout,
                            const Tensor& bias, const LoraFactors* lora, Activation kind) {
  Activated result{.kind = kind};
  result.v = linear_of(x, {}, kind, weight, layout, bias, lora, &result);
  return result;
}

Tensor logits(const Tensor& x, const Tensor& weight) {
  const int64_t in = x.dim(-1), rows = x.numel() / in, vocabulary = weight.dim(0);
  Tensor out = Tensor::empty({rows, vocabulary}, DType::kF32, x.device(), MemoryKind::kWorkspace);
  product(out, operand(x, in), operand(weight, in, true), rows, vocabulary, in, x.dtype());
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
