// SPDX-License-Identifier: Apache-2.0
// What matmul does beside the product: t in the same pass, the epilogues, a residual, operands that
// may be rounded. In fp32 the fused result has the bits of the separate kernels, which have tests
// of their own; in half precision it is rounded once less than they are.
#include <span>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/matmul_problem.h"

namespace tenon::test {
namespace {

struct Size {
  int64_t m, n, k, k2;
};
// Few rows, odd tiles, several blocks of K, more ranks than lanes, several blocks of rows.
constexpr Size kSizes[] = {{3, 45, 50, 8},    {19, 5, 41, 3},       {37, 70, 101, 16},
                           {131, 97, 60, 33}, {61, 64, 1700, 8},    {29, 35, 1567, 17},
                           {45, 131, 785, 1}, {200, 160, 3200, 64}, {1040, 33, 797, 8}};

// The sizes for a target. The last two make CPUs go several times over K and over the rows, which no
// card's kernels do, and would take the harness that plays cards minutes.
std::span<const Size> sizes_for(const Target& target) {
  const std::span<const Size> all(kSizes);
  return target.place.memory != nullptr ? all.first(all.size() - 2) : all;
}

Matrix matrix_of(const GuardedArray& array, int64_t rows, int64_t columns) {
  Matrix m(rows, columns);
  for (int64_t i = 0; i < rows * columns; ++i) m.data()[i] = array.get(i);
  return m;
}

// `bound` and so much more.
Bound plus(Bound bound, const std::vector<double>& more) {
  for (size_t i = 0; i < more.size(); ++i) bound.absolute[i] += more[i];
  return bound;
}

std::vector<double> list_of(const Matrix& m) { return {m.data(), m.data() + m.size()}; }

struct Operands {
  Operands(const Size& s, DType x_dtype, DType w_dtype, DType adapter_dtype, DType c_dtype)
      : size(s),
        x(x_dtype, random_values(s.m * s.k, 1)),
        w(w_dtype, random_values(s.k * s.n, 2)),
        down(adapter_dtype, random_values(s.k2 * s.k, 3)),
        up(adapter_dtype, random_values(s.n * s.k2, 4)),
        bias(DType::kF32, random_values(s.n, 5)),
        add(c_dtype, random_values(s.m * s.n, 6)),
        c(c_dtype, s.m * s.n) {}

  // x w + bias
  MatmulArgs product(GuardedArray& out) const {
    return {.a = {.data = x.data(), .stride = size.k, .dtype = x.dtype()},
            .b = {.data = w.data(), .stride = size.n, .dtype = w.dtype()},
            .c = out.data(),
            .c_stride = size.n,
            .c_dtype = out.dtype(),
            .m = size.m,
            .n = size.n,
            .k = size.k,
            .bias = floats(bias)};
  }
  // (x w + t up^T) + bias with t = 0.5 x down^T
  MatmulArgs with_adapter(GuardedArray& out, GuardedArray& t) const {
    MatmulArgs args = product(out);
    args.b2 = {.data = up.data(), .stride = size.k2, .transposed = true, .dtype = up.dtype()};
    args.k2 = size.k2;
    args.down = {.data = down.data(), .stride = size.k, .transposed = true, .dtype = down.dtype()};
    args.t = floats(t);
    args.down_alpha = 0.5f;
    return args;
  }

  Size size;
  GuardedArray x, w, down, up, bias, add, c;
};

void check_adapter(const KernelTable* table, const Size& s, DType x_dtype, DType adapter_dtype,
                   DType precision) {
  const Operands o(s, x_dtype, x_dtype, adapter_dtype, x_dtype);
  const auto got = run_on_threads([&] {
    GuardedArray c = o.c, t(DType::kF32, s.m * s.k2);
    MatmulArgs args = o.with_adapter(c, t);
    args.precision = precision;
    table->matmul(args);
    return std::vector<GuardedArray>{c, t};
  });
  const Matrix x = matrix_of(o.x, s.m, s.k), w = matrix_of(o.w, s.k, s.n);
  const Matrix down = matrix_of(o.down, s.k2, s.k), up = matrix_of(o.up, s.n, s.k2);
  const Matrix t = matrix_of(got[1], s.m, s.k2);  // c is checked against the t that there is
  // An operand that is rounded to u changes a product of two by 2 u + u^2 at most.
  const double u = precision == DType::kF32 ? 0 : unit_roundoff(precision), cast = 2.1 * u;
  const auto bound = [&](int64_t terms, const Matrix& magnitude, DType out) {
    const Bound sum = Bound::sum(terms + terms / 16 + 4, list_of(magnitude)).then_round(out);
    return plus(sum, list_of(cast * magnitude));
  };
  const Matrix t_magnitude = 0.5 * (x.cwiseAbs() * down.cwiseAbs().transpose());
  CHECK_WITHIN(got[1].values(), list_of(0.5 * (x * down.transpose())),
               bound(s.k, t_magnitude, DType::kF32));
  Matrix c = x * w + t * up.transpose();
  Matrix magnitude = x.cwiseAbs() * w.cwiseAbs() + t.cwiseAbs() * up.cwiseAbs().transpose();
  for (int64_t j = 0; j < s.n; ++j) {
    c.col(j).array() += o.bias.get(j);
    magnitude.col(j).array() += std::fabs(o.bias.get(j));
  }
  CHECK_WITHIN(got[0].values(), list_of(c), bound(s.k + s.k2, magnitude, x_dtype));
}

}  // namespace

TEST_CASE("matmul computes an adapter's t in its pass over a", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const Size& s : sizes_for(target)) {
      CAPTURE(target.name, s.m, s.n, s.k, s.k2);
      check_adapter(table, s, DType::kF32, DType::kF32, DType::kF32);
      check_adapter(table, s, DType::kBF16, DType::kBF16, DType::kF32);
      check_adapter(table, s, DType::kBF16, DType::kF32, DType::kBF16);
      check_adapter(table, s, DType::kF16, DType::kF32, DType::kF16);
    }
  }
}

TEST_CASE("matmul of int8 operands", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    if (target.place.memory != nullptr) continue;  // cards have no int8 yet
    for (const Size& s : sizes_for(target)) {
      for (int way = 0; way < 8; ++way) {
        CAPTURE(target.name, s.m, s.n, s.k, way);
        const Int8Matrix b(s.k, s.n, way / 2 % 2 != 0, 0, 2);
        const Int8Matrix a(s.m, s.k, way % 2 != 0, 0, 1);
        const GuardedArray floats_a(DType::kF32, random_values(s.m * s.k, 3));  // beside int8
        const bool both = way < 4;
        const auto got = run_on_threads([&] {
          GuardedArray c(DType::kF32, s.m * s.n);
          table->matmul(
              {.a = both ? a.operand() : MatrixOperand{.data = floats_a.data(), .stride = s.k},
               .b = b.operand(),
               .c = c.data(),
               .c_stride = s.n,
               .m = s.m,
               .n = s.n,
               .k = s.k});
          return std::vector<GuardedArray>{c};
        });
        const Matrix x = both ? a.values : matrix_of(floats_a, s.m, s.k);
        const Matrix magnitude = x.cwiseAbs() * b.values.cwiseAbs();
        // Each operand is rounded once when it is scaled; or the sum is when it becomes a float, and
        // when it is scaled.
        CHECK_WITHIN(got[0].values(), list_of(x * b.values),
                     plus(Bound::sum(s.k + s.k / 16 + 4, list_of(magnitude)),
                          list_of(3 * u32() * magnitude)));
      }
    }
  }
}

TEST_CASE("matmul rounds operands only where it may", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    // 1 + 2^-20 is no bf16 or fp16 number: the product with 1 tells whether it was rounded.
    const GuardedArray a(DType::kF32, std::vector<float>(40 * 64, 1 + 0x1p-20f));
    const GuardedArray b(DType::kBF16, std::vector<float>(64 * 40, 1));
    GuardedArray c(DType::kF32, 40 * 40);
    table->matmul({.a = {.data = a.data(), .stride = 64},
                   .b = {.data = b.data(), .stride = 40, .dtype = DType::kBF16},
                   .c = c.data(),
                   .c_stride = 40,
                   .m = 40,
                   .n = 40,
                   .k = 1});
    for (int64_t i = 0; i < c.count(); ++i) REQUIRE(c.get(i) == 1 + 0x1p-20);
  }
}

TEST_CASE("matmul's epilogues have the bits of the separate kernels", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const Size& s : sizes_for(target)) {
      CAPTURE(target.name, s.m, s.n, s.k);
      const Operands o(s, DType::kF32, DType::kF32, DType::kF32, DType::kF32);
      const int64_t count = s.m * s.n;
      GuardedArray v = o.c;
      table->matmul(o.product(v));
      for (const Activation f : {Activation::kGeluTanh, Activation::kRelu, Activation::kSilu}) {
        GuardedArray value = o.c, slope = o.c, sum = o.c;
        table->activation({.x = v.data(), .y = value.data(), .count = count, .activation = f});
        table->activation_grad({.x = o.add.data(),
                                .dy = v.data(),
                                .dx = slope.data(),
                                .count = count,
                                .activation = f});
        table->add({.a = value.data(), .b = o.add.data(), .y = sum.data(), .count = count});
        const auto fused = run_on_threads([&] {
          GuardedArray pre = o.c, c = o.c, c_grad = o.c, c_sum = o.c, given = o.add;
          MatmulArgs args = o.product(c);
          args.epilogue = Epilogue::kActivation;
          args.activation = f;
          args.pre = pre.data();
          table->matmul(args);
          args.c = c_sum.data();
          args.pre = nullptr;
          args.add = o.add.data();
          table->matmul(args);
          args = o.product(c_grad);
          args.epilogue = Epilogue::kActivationGrad;
          args.activation = f;
          args.pre = given.data();
          table->matmul(args);
          return std::vector<GuardedArray>{pre, c, c_sum, c_grad};
        });
        CHECK((fused[0].bytes() == v.bytes()));
        CHECK((fused[1].bytes() == value.bytes()));
        CHECK((fused[2].bytes() == sum.bytes()));
        CHECK((fused[3].bytes() == slope.bytes()));
      }
    }
  }
}

TEST_CASE("matmul's epilogues in half precision", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      for (const Size& s : sizes_for(target)) {
        CAPTURE(target.name, name_of(dtype), s.m, s.n, s.k);
        const Operands o(s, dtype, dtype, dtype, dtype);
        GuardedArray pre = o.c, c = o.c;
        MatmulArgs args = o.product(c);
        args.epilogue = Epilogue::kActivation;
        args.activation = Activation::kRelu;
        args.pre = pre.data();
        args.add = o.add.data();
        table->matmul(args);
        // relu(pre) + add: exact but for the roundings of relu's result, if it has one, and of c.
        std::vector<double> want(static_cast<size_t>(c.count())), rounding(want.size());
        for (int64_t i = 0; i < c.count(); ++i) {
          const double value = std::max(pre.get(i), 0.0);
          want[static_cast<size_t>(i)] = value + o.add.get(i);
          rounding[static_cast<size_t>(i)] = unit_roundoff(dtype) * value;
        }
        CHECK_WITHIN(c.values(), want, Bound::share(2, rounding).then_round(dtype));

        GuardedArray grad = o.c, v(DType::kF32, s.m * s.n);
        table->matmul(o.product(v));
        args = o.product(grad);
        args.epilogue = Epilogue::kActivationGrad;
        args.activation = Activation::kRelu;
        args.pre = pre.data();
        table->matmul(args);
        for (int64_t i = 0; i < c.count(); ++i) {
          const double value = pre.get(i) > 0 ? v.get(i) : 0;
          want[static_cast<size_t>(i)] = value;
          // v here and there: two sums of k products of at most 1, whose order may differ.
          rounding[static_cast<size_t>(i)] =
              2.1 * unit_roundoff(dtype) * std::fabs(value) +
              2 * static_cast<double>(s.k) * unit_roundoff(DType::kF32) * static_cast<double>(s.k);
        }
        CHECK_WITHIN(grad.values(), want, Bound::share(1, rounding));

        // On CPUs GELU is that of `pre` as it is stored, rounded once more: what backward goes by.
        if (target.place.memory != nullptr) continue;
        args = o.product(c);
        args.epilogue = Epilogue::kActivation;
        args.activation = Activation::kGeluTanh;
        args.pre = pre.data();
        table->matmul(args);
        for (int64_t i = 0; i < c.count(); ++i) {
          want[static_cast<size_t>(i)] = reference::activation(args.activation, pre.get(i));
          // An argument off by 5 u, which the sigmoid multiplies by at most |z|, and a few ulps.
          rounding[static_cast<size_t>(i)] = 64 * u32() * std::fabs(pre.get(i));
        }
        CHECK_WITHIN(c.values(), want, Bound{rounding}.then_round(dtype));
      }
    }
  }
}

}  // namespace tenon::test
