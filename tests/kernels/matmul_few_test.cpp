// SPDX-License-Identifier: Apache-2.0
// matmul with few rows or columns: every number of them, long K cut in parts, and int8 operands,
// which are multiplied as fp32 numbers times the scale of their row. The general test
// (matmul_test.cpp) meets few rows and columns too.
#include "core/backend.h"
#include "core/parallel_for.h"
#include "tests/kernels/matmul_problem.h"

namespace tenon::test {
namespace {

// What both sides of a product hold, and how they are given.
struct Product {
  MatrixOperand a, b, a2, b2;
  Matrix sum, magnitude;  // (m, n)
};

template <class A, class B>
void add_pair(const A& a, const B& b, Matrix& sum, Matrix& magnitude) {
  sum += a.values * b.values;
  magnitude += a.values.cwiseAbs() * b.values.cwiseAbs();
}

// One rounding for each of K + k2 products and sums, one for a number times its scale, and those of
// alpha, of the parts of K and of the lanes: as in matmul_test.cpp.
int64_t roundings(const MatmulProblem& p) { return p.k + p.k2 + (p.k + p.k2) / 16 + 8; }

void check(const KernelTable& table, const MatmulProblem& p, const MatmulOperands& x,
           const Product& product) {
  INFO(table.name << ": " << p.text() << " " << name_of(product.a.dtype) << " x "
                  << name_of(product.b.dtype));
  const auto run = [&](int threads) {
    set_thread_count(threads);
    return multiply(table, p, x, product.a, product.b, product.a2, product.b2);
  };
  const int before = thread_count();
  const GuardedArray c = run(1);
  Matrix want = p.alpha * product.sum, magnitude = std::fabs(p.alpha) * product.magnitude;
  for (int64_t j = 0; p.bias && j < p.n; ++j) {
    want.col(j).array() += x.bias.get(j);
    magnitude.col(j).array() += std::fabs(x.bias.get(j));
  }
  if (p.accumulate) {
    want += x.c.values;
    magnitude += x.c.values.cwiseAbs();
  }
  CHECK_WITHIN(results(p, x, c), std::vector<double>(want.data(), want.data() + want.size()),
               Bound::sum(roundings(p), {magnitude.data(), magnitude.data() + magnitude.size()})
                   .then_round(p.c));
  for (int threads : {2, 3}) {
    const bool same_bytes = run(threads).bytes() == c.bytes();
    INFO(threads << " threads");
    CHECK(same_bytes);
  }
  set_thread_count(before);
}

Product floats(const MatmulProblem& p, const MatmulOperands& x) {
  Product product = {x.a.operand(),  x.b.operand(),          x.a2.operand(),
                     x.b2.operand(), Matrix::Zero(p.m, p.n), Matrix::Zero(p.m, p.n)};
  add_pair(x.a, x.b, product.sum, product.magnitude);
  add_pair(x.a2, x.b2, product.sum, product.magnitude);
  return product;
}

}  // namespace

TEST_CASE("matmul with few: every number of rows and of columns", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (int64_t few = 1; few <= 33; ++few) {
      for (int way = 0; way < 4; ++way) {
        MatmulProblem p = {.m = few,
                           .n = 133,
                           .k = 83,
                           .k2 = way == 1 ? 8 : 0,
                           .transpose_a = way % 2 != 0,
                           .transpose_b = way >= 2,
                           .bias = true,
                           .accumulate = way == 2,
                           .alpha = 0.5f,
                           .gap = way};
        p.a = p.a2 = few % 2 != 0 ? DType::kBF16 : DType::kF32;
        p.c = few % 3 != 0 ? DType::kF32 : DType::kF16;
        for (int side = 0; side < 2; ++side) {
          const MatmulOperands x(p);
          check(*table, p, x, floats(p, x));
          const int64_t m = p.m;
          p.m = p.n;
          p.n = m;
        }
      }
    }
  }
}

TEST_CASE("matmul with few: K in parts, blocks and strips", "[kernels]") {
  const DType bf16 = DType::kBF16;
  const MatmulProblem problems[] = {
      {.m = 3, .n = 40, .k = 3001, .bias = true},
      {.m = 3, .n = 40, .k = 3001, .k2 = 8, .transpose_b = true, .accumulate = true},
      {.m = 8, .n = 768, .k = 2048, .transpose_a = true},
      {.m = 61, .n = 8, .k = 2300, .k2 = 16, .transpose_a = true, .a = bf16, .a2 = bf16},
      {.m = 1, .n = 97, .k = 7001, .transpose_b = true, .b = bf16, .b2 = bf16, .gap = 3},
      {.m = 16, .n = 2310, .k = 801, .b = bf16, .b2 = bf16, .c = bf16, .gap = 1},
      {.m = 32, .n = 1001, .k = 300, .bias = true},
      {.m = 700, .n = 32, .k = 1601, .transpose_b = true},
      {.m = 5, .n = 5, .k = 5003},
  };
  for (const KernelTable* table : usable_tables()) {
    for (const MatmulProblem& p : problems) {
      const MatmulOperands x(p);
      check(*table, p, x, floats(p, x));
    }
  }
}

TEST_CASE("matmul with few: int8 numbers with a scale for each row", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (const auto& [m, n, k] : {std::tuple<int64_t, int64_t, int64_t>{1, 70, 41},
                                  {8, 131, 96},
                                  {19, 4, 33},
                                  {130, 16, 50},
                                  {2, 60, 1300}}) {
      for (int way = 0; way < 4; ++way) {
        const MatmulProblem p = {.m = m,
                                 .n = n,
                                 .k = k,
                                 .k2 = 8,
                                 .transpose_a = way % 2 != 0,
                                 .transpose_b = way >= 2,
                                 .bias = true,
                                 .gap = 2};
        const MatmulOperands x(p);
        const Int8Matrix a(m, k, p.transpose_a, 3, 11), b(k, n, p.transpose_b, 1, 13);
        for (int side = 1; side < 4; ++side) {  // a, b, both
          Product product = floats(p, x);
          product.sum = x.a2.values * x.b2.values;
          product.magnitude = x.a2.values.cwiseAbs() * x.b2.values.cwiseAbs();
          if (side == 1) add_pair(a, x.b, product.sum, product.magnitude);
          if (side == 2) add_pair(x.a, b, product.sum, product.magnitude);
          if (side == 3) add_pair(a, b, product.sum, product.magnitude);
          if (side != 2) product.a = a.operand();
          if (side != 1) product.b = b.operand();
          check(*table, p, x, product);
        }
      }
    }
  }
}

}  // namespace tenon::test
