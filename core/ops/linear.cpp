// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <optional>

#include "core/backend.h"
#include "core/ops.h"
#include "core/ops/dora.h"
#include "core/ops/launches.h"
#include "core/ops/linear_int8.h"

namespace tenon {
namespace {

struct Sizes {
  int64_t rows, in, out, rank;
  int64_t column = 0, stride = 0;  // of y, where several linears lie side by side
};

Sizes check(const Tensor& x, const LinearPart& part) {
  const Weight& weight = part.weight;
  const Tensor& bias = part.bias;
  const LoraFactors& lora = part.lora;
  TENON_CHECK(weight.shape().rank() == 2, "[linear] a weight has two dims, got {}",
              weight.shape().text());
  const bool out_in = part.layout == WeightLayout::kOutIn;
  const int64_t in = weight.dim(out_in ? 1 : 0), out = weight.dim(out_in ? 0 : 1);
  TENON_CHECK(x.dim(-1) == in, "[linear] x {} does not fit weight {}", x.shape().text(),
              weight.shape().text());
  TENON_CHECK(!bias.defined() || (bias.numel() == out && bias.dtype() == DType::kF32),
              "[linear] bias {} for {} outputs", bias.shape().text(), out);
  int64_t rank = 0;
  if (lora.a.defined()) {
    rank = lora.a.dim(0);
    TENON_CHECK(lora.a.dim(1) == in && lora.b.dim(0) == out && lora.b.dim(1) == rank &&
                    (!lora.bias.defined() || lora.bias.numel() == out),
                "[linear] adapter A {}, B {}, bias {} beside weight {}", lora.a.shape().text(),
                lora.b.shape().text(), lora.bias.shape().text(), weight.shape().text());
  }
  return {x.numel() / in, in, out, rank};
}

// The linear's columns of y or dy (rows, stride).
MatrixOperand columns_of(const Tensor& y, const Sizes& s, bool transposed = false) {
  return {
      .data = at(y, s.column), .stride = s.stride, .transposed = transposed, .dtype = y.dtype()};
}

// Adds the sums of the linear's columns of dy.
void bias_gradient(const Tensor& dy, const Sizes& s, const Tensor& dbias) {
  Tensor own = dy;
  if (s.stride != s.out) {
    own = Tensor::empty({s.rows, s.out}, dy.dtype(), dy.device(), MemoryKind::kWorkspace);
    kernels(dy.device())
        .copy_rows({.x = at(dy, s.column),
                    .y = own.raw(),
                    .rows = s.rows,
                    .channels = s.out,
                    .x_stride = s.stride,
                    .y_stride = s.out,
                    .dtype = dy.dtype()});
  }
  kernels(dy.device())
      .column_sum({.x = own.raw(),
                   .out = dbias.data<float>(),
                   .rows = s.rows,
                   .channels = s.out,
                   .dtype = dy.dtype()});
}

// The gradients of weight and bias from x (rows, in) and dy.
void weight_gradients(const Tensor& x, const Tensor& dy, WeightLayout layout, const Sizes& s,
                      const Tensor& dweight, const Tensor& dbias) {
  if (dweight.defined()) {
    if (layout == WeightLayout::kInOut) {
      product(dweight, operand(x, s.in, true), columns_of(dy, s), s.in, s.out, s.rows, x.dtype(), 1,
              true);
    } else {
      product(dweight, columns_of(dy, s, true), operand(x, s.in), s.out, s.in, s.rows, x.dtype(), 1,
              true);
    }
  }
  if (dbias.defined()) bias_gradient(dy, s, dbias);
}

// bias + scale * the adapter's bias, either of which may be undefined.
Tensor whole_bias(const LinearPart& part) {
  const Tensor& more = part.lora.bias;
  if (!more.defined()) return part.bias;
  Tensor sum = Tensor::empty_like(more);
  const KernelTable& run = kernels(sum.device());
  run.scale({.x = more.raw(), .y = sum.raw(), .count = sum.numel(), .factor = part.lora.scale});
  if (part.bias.defined())
    run.add({.a = part.bias.raw(), .b = sum.raw(), .y = sum.raw(), .count = sum.numel()});
  return sum;
}

// dbias += scale * the sums of the linear's columns of dy, for the adapter's bias.
void adapter_bias_gradient(const Tensor& dy, const Sizes& s, float scale, const Tensor& dbias) {
  if (!dbias.defined()) return;
  Tensor sum = Tensor::zeros(dbias.shape(), DType::kF32, dy.device());
  bias_gradient(dy, s, sum);
  const KernelTable& run = kernels(dy.device());
  run.scale({.x = sum.raw(), .y = sum.raw(), .count = sum.numel(), .factor = scale});
  run.add({.a = dbias.raw(), .b = sum.raw(), .y = dbias.raw(), .count = sum.numel()});
}

// Whether all that backward needs of v is a bit an element: that of a ReLU's.
bool is_bits(const Tensor& v) { return v.defined() && v.dtype() == DType::kU8; }

Tensor positive_bits(const Tensor& x) {
  Tensor bits = Tensor::empty({(x.numel() + 7) / 8}, DType::kU8, x.device());
  kernels(x.device())
      .positive_bits(
          {.x = x.raw(), .bits = bits.data<uint8_t>(), .count = x.numel(), .dtype = x.dtype()});
  return bits;
}

// What backward needs of a linear's input.
struct Input {
  Tensor x;  // undefined where every weight is frozen
  Tensor v;  // where x = f(v)
  Activation kind;
  Shape shape;
};

// dx (+)= [dY | U] [W ; A], and U = scale dY B in the same pass over dY; with dropout dY W +
// dropout(U A). Where x = f(v), dv = dx f'(v).
void input_gradient(const Tensor& dy, const LinearPart& part, const Sizes& s, const Tensor& u,
                    const Input& input, const Tensor& dx, bool accumulate) {
  const DType dtype = dy.dtype();
  const LoraFactors& lora = part.lora;
  const bool drops = s.rank > 0 && lora.dropout.p != 0, fused = s.rank > 0 && !drops;
  MatmulArgs args = {.a = columns_of(dy, s),
                     .b = part.weight.operand(part.layout == WeightLayout::kInOut),
                     .c = dx.raw(),
                     .c_stride = s.in,
                     .c_dtype = dtype,
                     .m = s.rows,
                     .n = s.in,
                     .k = s.out,
                     .accumulate = accumulate,
                     .precision = dtype};
  const bool bits = is_bits(input.v);
  if (input.v.defined() && !bits && !drops) {
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
  const auto through_bits = [&] {
    kernels(dx.device())
        .select_bits({.x = dx.raw(),
                      .bits = input.v.data<uint8_t>(),
                      .y = dx.raw(),
                      .count = dx.numel(),
                      .dtype = dtype});
  };
  if (!drops) return bits ? through_bits() : void();
  product(u, columns_of(dy, s), operand(lora.b, s.rank), s.rows, s.rank, s.out, dtype, lora.scale);
  const Tensor through = Tensor::empty_like(dx);
  product(through, operand(u, s.rank), operand(lora.a, s.in), s.rows, s.in, s.rank, dtype);
  apply_dropout(through, lora.dropout, dx, dx);
  if (bits) return through_bits();
  if (input.v.defined()) {
    kernels(dx.device())
        .activation_grad({.x = input.v.raw(),
                          .dy = dx.raw(),
                          .dx = dx.raw(),
                          .count = dx.numel(),
                          .activation = input.kind,
                          .dtype = dtype});
  }
}

// T = scale * dropout(x) A^T, (rows, R), from an adapter that is there.
Tensor down_of(const Tensor& x, const LoraFactors& lora, const Sizes& s) {
  const Tensor t = Tensor::empty({s.rows, s.rank}, DType::kF32, x.device());
  product(t, operand(dropped(x, lora.dropout), s.in), operand(lora.a, s.in, true), s.rows, s.rank,
          s.in, x.dtype(), lora.scale);
  return t;
}

// What compute() does, of a weight in int8; `rows`: x.
Tensor compute_int8(const Int8Rows& rows, const LinearPart& part, const Sizes& s, const Tensor& y,
                    const Activated* activated) {
  const Tensor& x = rows.x;
  const DType dtype = x.dtype();
  const Tensor& result = y.defined() ? y : activated->value;
  const Tensor bias = whole_bias(part);
  int8_product(rows, part.weight, bias.data<float>(), at(result, s.column), s.stride, dtype);
  Tensor t;
  if (s.rank > 0) {
    t = down_of(x, part.lora, s);
    kernels(x.device())
        .matmul({.a = operand(t, s.rank),
                 .b = operand(part.lora.b, s.rank, true),
                 .c = at(result, s.column),
                 .c_stride = s.stride,
                 .c_dtype = dtype,
                 .m = s.rows,
                 .n = s.out,
                 .k = s.rank,
                 .accumulate = true,
                 .precision = dtype});
  }
  if (activated != nullptr) {
    kernels(x.device())
        .activation({.x = result.raw(),
                     .y = activated->value.raw(),
                     .count = result.numel(),
                     .activation = activated->kind,
                     .dtype = dtype});
  }
  return t;
}

// The linear's columns of y; where `activated` is given, y (which may be undefined) gets v and
// `activated->value` f of it. Returns T = scale * dropout(x) A^T, (rows, R).
Tensor compute(const Tensor& x, const LinearPart& part, const Sizes& s, const Tensor& y,
               const Activated* activated) {
  const DType dtype = x.dtype();
  const LoraFactors& lora = part.lora;
  const Tensor bias = whole_bias(part);
  MatmulArgs args = {.a = operand(x, s.in),
                     .b = part.weight.operand(part.layout == WeightLayout::kOutIn),
                     .c = at(activated != nullptr ? activated->value : y, s.column),
                     .c_stride = s.stride,
                     .c_dtype = dtype,
                     .m = s.rows,
                     .n = s.out,
                     .k = s.in,
                     .bias = bias.data<float>(),
                     .precision = dtype};
  if (activated != nullptr) {
    args.epilogue = Epilogue::kActivation;
    args.activation = activated->kind;
    args.pre = y.raw();
  }
  Tensor t;  // (rows, R)
  if (s.rank > 0) {
    args.b2 = operand(lora.b, s.rank, true);
    args.k2 = s.rank;
    if (lora.dropout.p != 0) {
      t = down_of(x, lora, s);
      args.a2 = operand(t, s.rank);
    } else {
      t = Tensor::empty({s.rows, s.rank}, DType::kF32, x.device());
      args.down = operand(lora.a, s.in, true);
      args.t = t.data<float>();
      args.down_alpha = lora.scale;
    }
  }
  kernels(x.device()).matmul(args);
  return t;
}

// What a linear's gradients gather in, by its place among the recorded inputs.
constexpr size_t kInputsOfPart = 5;  // weight, bias, A, B, the adapter's bias

// The gradients of one linear; `dx` where that of the input is wanted, overwritten or added to.
void gradient(const Tensor& dy, const LinearPart& part, const Sizes& s, const Tensor& t,
              const Input& input, size_t first, const Tensor& dx, bool accumulate, Grads& grads) {
  const DType dtype = dy.dtype();
  const LoraFactors& lora = part.lora;
  Tensor u;  // (rows, R): scale * dY B
  if (s.rank > 0) u = Tensor::empty({s.rows, s.rank}, DType::kF32, dy.device());
  if (dx.defined()) {
    input_gradient(dy, part, s, u, input, dx, accumulate);
  } else if (s.rank > 0) {
    product(u, columns_of(dy, s), operand(lora.b, s.rank), s.rows, s.rank, s.out, dtype,
            lora.scale);
  }
  weight_gradients(input.x, dy, part.layout, s, grads.sink(first), grads.sink(first + 1));
  if (grads.wants(first + 2)) {  // dA = U^T dropout(x)
    const Tensor xd = dropped(input.x, lora.dropout);
    product(grads.sink(first + 2), operand(u, s.rank, true), operand(xd, s.in), s.rank, s.in,
            s.rows, dtype, 1, true);
  }
  if (grads.wants(first + 3)) {  // dB = dY^T T
    product(grads.sink(first + 3), columns_of(dy, s, true), operand(t, s.rank), s.out, s.rank,
            s.rows, dtype, 1, true);
  }
  adapter_bias_gradient(dy, s, lora.scale, grads.sink(first + 4));
}

// linears of x, which is f(v) where `v` is defined; where `activated` is given (of a single linear)
// the result is only v there, and f of it goes to `activated->value`.
Tensor linears_of(const Tensor& x, const Tensor& v, Activation kind, std::vector<LinearPart> parts,
                  Activated* activated) {
  std::vector<Sizes> sizes;
  int64_t width = 0;
  for (const LinearPart& part : parts) {
    sizes.push_back(check(x, part));
    sizes.back().column = width;
    width += sizes.back().out;
  }
  for (Sizes& s : sizes) s.stride = width;
  const Shape shape = with_channels(x.shape(), width);
  Tensor y;
  const bool bits = activated != nullptr && kind == Activation::kRelu;
  if (activated == nullptr || (current_tape() != nullptr && !bits))
    y = Tensor::empty(shape, x.dtype(), x.device());
  if (activated != nullptr) activated->value = Tensor::empty(shape, x.dtype(), x.device());

  std::vector<Tensor> inputs = {v.defined() ? v : x}, ts;
  bool needs_x = false;  // frozen weights need only dy
  std::optional<Int8Rows> in_int8;
  for (size_t i = 0; i < parts.size(); ++i) {
    LinearPart& part = parts[i];
    if (part.weight.int8() != nullptr) {
      if (!in_int8) in_int8 = int8_rows(x);
      ts.push_back(compute_int8(*in_int8, part, sizes[i], y, activated));
    } else {
      ts.push_back(compute(x, part, sizes[i], y, activated));
    }
    needs_x = needs_x || recording({&part.weight.dense(), &part.lora.a});
    inputs.push_back(part.weight.dense());
    part.weight = part.weight.detach();
    for (Tensor* input : {&part.bias, &part.lora.a, &part.lora.b, &part.lora.bias}) {
      inputs.push_back(*input);
      *input = input->detach();
    }
  }
  if (bits && current_tape() != nullptr) y = positive_bits(activated->value);
  const Input input = {needs_x ? x.detach() : Tensor{}, v.detach(), kind, x.shape()};
  record("linear", std::move(inputs), {&y},
         [=, parts = std::move(parts)](const std::vector<Tensor>& douts, Grads& grads) {
           const Tensor& dy = douts[0];
           Tensor dx;
           if (grads.wants(0)) dx = Tensor::empty(input.shape, dy.dtype(), dy.device());
           for (size_t i = 0; i < parts.size(); ++i) {
             gradient(dy, parts[i], sizes[i], ts[i], input, 1 + i * kInputsOfPart, dx, i > 0,
                      grads);
           }
           grads.add(0, dx);
         });
  return y;
}

LinearPart part_of(const Weight& weight, WeightLayout layout, const Tensor& bias,
                   const LoraFactors* lora) {
  return {weight, layout, bias, lora != nullptr ? *lora : LoraFactors{}};
}

}  // namespace

Tensor linear(const Tensor& x, const Weight& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora) {
  const LinearPart part = part_of(weight, layout, bias, lora);
  if (is_dora(part)) return dora_linear(x, part);
  return linears_of(x, {}, Activation::kGeluTanh, {part}, nullptr);
}

Tensor linears(const Tensor& x, std::vector<LinearPart> parts) {
  if (std::none_of(parts.begin(), parts.end(), is_dora))
    return linears_of(x, {}, Activation::kGeluTanh, std::move(parts), nullptr);
  std::vector<Tensor> results;
  for (const LinearPart& part : parts)
    results.push_back(linear(x, part.weight, part.layout, part.bias, &part.lora));
  return side_by_side(results);
}

Tensor linear(const Activated& x, const Weight& weight, WeightLayout layout, const Tensor& bias,
              const LoraFactors* lora) {
  const LinearPart part = part_of(weight, layout, bias, lora);
  if (is_dora(part)) return dora_linear(x, part);
  return linears_of(x.value, x.v, x.kind, {part}, nullptr);
}

Activated linear_activation(const Tensor& x, const Weight& weight, WeightLayout layout,
                            const Tensor& bias, const LoraFactors* lora, Activation kind) {
  const LinearPart part = part_of(weight, layout, bias, lora);
  Activated result{.kind = kind};
  if (is_dora(part)) {
    const Tensor v = dora_linear(x, part);
    if (current_tape() != nullptr) result.v = v;
    const Pause pause;  // only v is on the tape
    result.value = activation(v, kind);
  } else {
    result.v = linears_of(x, {}, kind, {part}, &result);
  }
  return result;
}

Tensor logits(const Tensor& x, const Tensor& weight) {
  const int64_t in = x.dim(-1), rows = x.numel() / in, vocabulary = weight.dim(0);
  Tensor out = Tensor::empty({rows, vocabulary}, DType::kF32, x.device(), MemoryKind::kWorkspace);
  product(out, operand(x, in), operand(weight, in, true), rows, vocabulary, in, x.dtype());
  return out;
}

}  // namespace tenon
