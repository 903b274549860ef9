// SPDX-License-Identifier: Apache-2.0
// matmul on every table against Eigen in double: sizes around every blocking constant, all dtypes,
// all ways round.
#include <limits>

#include "core/backend.h"
#include "core/parallel_for.h"
#include "tests/kernels/matmul_problem.h"

namespace tenon::test {
namespace {

struct Expected {
  std::vector<double> values, magnitude;  // magnitude: the sum of |terms|
};

Expected reference(const MatmulProblem& p, const MatmulOperands& x) {
  Matrix sum = p.alpha * (x.a.values * x.b.values + x.a2.values * x.b2.values);
  Matrix magnitude = std::fabs(p.alpha) * (x.a.values.cwiseAbs() * x.b.values.cwiseAbs() +
                                           x.a2.values.cwiseAbs() * x.b2.values.cwiseAbs());
  if (p.bias) {
    for (int64_t j = 0; j < p.n; ++j) {
      sum.col(j).array() += x.bias.get(j);
      magnitude.col(j).array() += std::fabs(x.bias.get(j));
    }
  }
  if (p.accumulate) {
    sum += x.c.values;
    magnitude += x.c.values.cwiseAbs();
  }
  return {{sum.data(), sum.data() + sum.size()},
          {magnitude.data(), magnitude.data() + magnitude.size()}};
}

// A product of K terms, each in fp32, then alpha, bias and c: K + 4 roundings of what is summed (a
// block of K more is one more for at most 1 / 16 of the terms), and one to the dtype of c.
// The second pair has the dtypes of the first.
void check(const KernelTable& table, MatmulProblem p, bool on_threads) {
  p.a2 = p.a;
  p.b2 = p.b;
  INFO(table.name << ": " << p.text());
  const MatmulOperands x(p);
  const int threads = thread_count();
  set_thread_count(1);
  const GuardedArray c = multiply(table, p, x);
  const Expected want = reference(p, x);
  const int64_t terms = p.k + p.k2 + (p.k + p.k2) / 16 + 4;
  CHECK_WITHIN(results(p, x, c), want.values, Bound::sum(terms, want.magnitude).then_round(p.c));
  if (on_threads) {
    for (int count : {2, 3}) {
      set_thread_count(count);
      const bool same_bytes = multiply(table, p, x).bytes() == c.bytes();
      INFO(count << " threads");
      CHECK(same_bytes);
    }
  }
  set_thread_count(threads);
}

// Turns through dtypes and options so that each meets each over the cases of a test.
class Turn {
 public:
  void apply(MatmulProblem& p) {
    constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
    constexpr float kAlphas[] = {1.0f, 0.25f, -1.7f};
    p.a = kTypes[next(3)];
    p.b = kTypes[next(3)];
    p.c = kTypes[next(3)];
    p.bias = next(2) != 0;
    p.accumulate = next(2) != 0;
    p.alpha = kAlphas[next(3)];
    p.gap = next(4) * 3;
    p.k2 = next(3) * 8;
  }

 private:
  int next(uint32_t count) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<int>((state_ >> 16) % count);
  }
  uint32_t state_ = 1;
};

}  // namespace

TEST_CASE("matmul: every small size, dtype and way round", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    Turn turn;
    int cases = 0;
    for (int64_t m : {1, 2, 7, 15, 16, 17, 33, 67}) {
      for (int64_t n : {1, 3, 8, 15, 16, 17, 31, 47, 131}) {
        for (int64_t k : {0, 1, 15, 16, 17, 71}) {
          for (int way = 0; way < 4; ++way) {
            MatmulProblem p = {
                .m = m, .n = n, .k = k, .transpose_a = way % 2 != 0, .transpose_b = way >= 2};
            turn.apply(p);
            check(*table, p, ++cases % 7 == 0);
          }
        }
      }
    }
  }
}

TEST_CASE("matmul: every dtype of a, b and c", "[kernels]") {
  constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
  for (const KernelTable* table : usable_tables()) {
    for (DType a : kTypes) {
      for (DType b : kTypes) {
        for (DType c : kTypes) {
          for (int way = 0; way < 4; ++way) {
            for (int64_t m : {5, 37}) {
              check(*table,
                    {.m = m,
                     .n = 53,
                     .k = 41,
                     .k2 = 8,
                     .transpose_a = way % 2 != 0,
                     .transpose_b = way >= 2,
                     .a = a,
                     .b = b,
                     .c = c,
                     .bias = true,
                     .accumulate = true,
                     .alpha = 0.5f,
                     .gap = 5},
                    false);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("matmul: sizes beyond every block", "[kernels]") {
  const DType bf16 = DType::kBF16, f16 = DType::kF16;
  // Rows, columns and K beyond their blocks: 2048 and 1024 rows, strips of 128 columns, 784 of K.
  const MatmulProblem problems[] = {
      {.m = 2060, .n = 41, .k = 787, .bias = true},
      {.m = 61, .n = 1571, .k = 797, .k2 = 8, .transpose_b = true, .accumulate = true},
      {.m = 1031, .n = 67, .k = 790, .k2 = 16, .a = bf16, .b = f16, .c = bf16, .bias = true},
      {.m = 21,
       .n = 1033,
       .k = 790,
       .k2 = 16,
       .a = f16,
       .b = bf16,
       .c = f16,
       .accumulate = true,
       .gap = 3},
      {.m = 131, .n = 157, .k = 1601, .transpose_a = true, .b = bf16, .c = f16, .accumulate = true},
      {.m = 8, .n = 1033, .k = 1601, .k2 = 8, .transpose_b = true, .b = f16, .bias = true},
      {.m = 13, .n = 523, .k = 1601, .k2 = 8, .transpose_a = true, .c = bf16, .accumulate = true},
      {.m = 1033, .n = 16, .k = 801, .k2 = 5, .transpose_b = true, .a = bf16, .bias = true},
      {.m = 523, .n = 9, .k = 2049, .transpose_a = true, .accumulate = true, .alpha = 2},
      {.m = 1, .n = 2500, .k = 1024, .transpose_b = true},
      {.m = 1, .n = 2500, .k = 1024, .b = bf16},
      {.m = 40, .n = 1100, .k = 800, .c = bf16, .bias = true},
  };
  for (const KernelTable* table : usable_tables()) {
    for (const MatmulProblem& p : problems) check(*table, p, true);
  }
}

TEST_CASE("matmul: tiles that are tried in turn give the same bits", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const MatmulProblem p = {.m = 211, .n = 173, .k = 1900, .a = dtype, .b = dtype, .bias = true};
      const MatmulOperands x(p);
      const GuardedArray first = multiply(*table, p, x);
      for (int run = 0; run < 8; ++run) {
        const bool same_bytes = multiply(*table, p, x).bytes() == first.bytes();
        INFO(table->name << " run " << run);
        CHECK(same_bytes);
      }
    }
  }
}

TEST_CASE("matmul: nothing to do writes nothing", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (const MatmulProblem& p : {MatmulProblem{.m = 0, .n = 20, .k = 5, .gap = 1},
                                   MatmulProblem{.m = 20, .n = 0, .k = 5, .gap = 1}}) {
      const MatmulOperands x(p);
      const bool unchanged = multiply(*table, p, x).bytes() == x.c.array.bytes();
      CHECK(unchanged);
    }
    const MatmulProblem p = {.m = 20, .n = 20, .k = 0, .accumulate = true};  // c += 0
    const MatmulOperands x(p);
    const bool unchanged = multiply(*table, p, x).bytes() == x.c.array.bytes();
    CHECK(unchanged);
  }
}

TEST_CASE("matmul: a NaN or infinity reaches its row or column and no other element", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (int64_t m : {7, 37}) {
      for (int way = 0; way < 4; ++way) {
        const MatmulProblem p = {.m = m,
                                 .n = 45,
                                 .k = 50,
                                 .k2 = 3,
                                 .transpose_a = way % 2 != 0,
                                 .transpose_b = way >= 2};
        INFO(table->name << ": " << p.text());
        MatmulOperands x(p);
        x.a.set(m - 2, 49, NAN);
        x.b.set(0, 44, std::numeric_limits<double>::infinity());
        const GuardedArray c = multiply(*table, p, x);
        bool right = true;
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < p.n; ++j) {
            const double y = c.get(i * x.c.stride + j);
            right &= i == m - 2 ? std::isnan(y) : j == 44 ? std::isinf(y) : std::isfinite(y);
          }
        }
        CHECK(right);
      }
    }
  }
}

}  // namespace tenon::test
