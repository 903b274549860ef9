// SPDX-License-Identifier: Apache-2.0
// matmul on every table against Eigen in double: sizes around every blocking constant, all dtypes,
// all ways round.
#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <limits>

#include "core/backend.h"
#include "core/parallel_for.h"
#include "tests/support/compare.h"

namespace tenon::test {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct Problem {
  int64_t m = 0, n = 0, k = 0, k2 = 0;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::kF32, b = DType::kF32, c = DType::kF32;
  bool bias = false, accumulate = false;
  float alpha = 1;
  int64_t gap = 0;  // elements between one stored row and the next

  std::string text() const {
    return fmt::format("m={} n={} k={}+{} {}{} {}x{}->{} bias={} accumulate={} alpha={} gap={}", m,
                       n, k, k2, transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', name_of(a),
                       name_of(b), name_of(c), bias, accumulate, alpha, gap);
  }
};

// A stored matrix; between its rows lie NaN, which must never reach a result.
struct Stored {
  Stored(DType dtype, int64_t rows, int64_t columns, bool transpose, int64_t gap, uint32_t seed)
      : transposed(transpose),
        stride((transpose ? rows : columns) + gap),
        array(dtype, (transpose ? columns : rows) * stride),
        values(rows, columns) {
    for (int64_t i = 0; i < array.count(); ++i) array.set(i, NAN);
    const std::vector<float> random = random_values(rows * columns, seed);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        set(r, c, random[static_cast<size_t>(r * columns + c)]);
      }
    }
  }
  int64_t at(int64_t row, int64_t column) const {
    return transposed ? column * stride + row : row * stride + column;
  }
  void set(int64_t row, int64_t column, double value) {
    array.set(at(row, column), value);
    values(row, column) = array.get(at(row, column));
  }
  MatrixOperand operand() const {
    return {array.count() == 0 ? nullptr : array.data(), stride, transposed, array.dtype()};
  }

  bool transposed;
  int64_t stride;
  GuardedArray array;
  Matrix values;
};

struct Operands {
  explicit Operands(const Problem& p)
      : a(p.a, p.m, p.k, p.transpose_a, p.gap, 1),
        b(p.b, p.k, p.n, p.transpose_b, p.gap, 2),
        a2(p.a, p.m, p.k2, p.transpose_a, p.gap + 1, 3),
        b2(p.b, p.k2, p.n, !p.transpose_b, p.gap, 4),
        c(p.c, p.m, p.n, false, p.gap, 5),
        bias(DType::kF32, random_values(p.n, 6)) {
    if (p.accumulate) return;
    for (int64_t i = 0; i < c.array.count(); ++i) c.array.set(i, NAN);  // must not be read
  }
  Stored a, b, a2, b2, c;
  GuardedArray bias;
};

// c after the product, as bytes with its guards and gaps.
GuardedArray multiply(const KernelTable& table, const Problem& p, const Operands& x) {
  GuardedArray c = x.c.array;
  table.matmul({.a = x.a.operand(),
                .b = x.b.operand(),
                .a2 = x.a2.operand(),
                .b2 = x.b2.operand(),
                .c = c.data(),
                .c_stride = x.c.stride,
                .c_dtype = p.c,
                .m = p.m,
                .n = p.n,
                .k = p.k,
                .k2 = p.k2,
                .alpha = p.alpha,
                .bias = p.bias ? static_cast<const float*>(x.bias.data()) : nullptr,
                .accumulate = p.accumulate});
  return c;
}

struct Expected {
  std::vector<double> values, magnitude;  // magnitude: the sum of |terms|
};

Expected reference(const Problem& p, const Operands& x) {
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

// The elements of c without the gaps; checks that the gaps and guards are as they were.
std::vector<double> elements(const Problem& p, const Operands& x, const GuardedArray& c) {
  std::vector<double> out;
  bool gaps_intact = true;
  for (int64_t i = 0; i < c.count(); ++i) {
    if (i % x.c.stride < p.n) {
      out.push_back(c.get(i));
    } else {
      gaps_intact &= std::isnan(c.get(i));
    }
  }
  CHECK(gaps_intact);
  CHECK(c.guards_intact());
  return out;
}

// A product of K terms, each in fp32, then alpha, bias and c: K + 4 roundings of what is summed (a
// block of K more is one more for at most 1 / 16 of the terms), and one to the dtype of c.
void check(const KernelTable& table, const Problem& p, bool on_threads) {
  INFO(table.name << ": " << p.text());
  const Operands x(p);
  const int threads = thread_count();
  set_thread_count(1);
  const GuardedArray c = multiply(table, p, x);
  const Expected want = reference(p, x);
  const int64_t terms = p.k + p.k2 + (p.k + p.k2) / 16 + 4;
  CHECK_WITHIN(elements(p, x, c), want.values, Bound::sum(terms, want.magnitude).then_round(p.c));
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
  void apply(Problem& p) {
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
            Problem p = {
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
  const Problem problems[] = {
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
  };
  for (const KernelTable* table : usable_tables()) {
    for (const Problem& p : problems) check(*table, p, true);
  }
}

TEST_CASE("matmul: nothing to do writes nothing", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (const Problem& p :
         {Problem{.m = 0, .n = 20, .k = 5, .gap = 1}, Problem{.m = 20, .n = 0, .k = 5, .gap = 1}}) {
      const Operands x(p);
      const bool unchanged = multiply(*table, p, x).bytes() == x.c.array.bytes();
      CHECK(unchanged);
    }
    const Problem p = {.m = 20, .n = 20, .k = 0, .accumulate = true};  // c += 0
    const Operands x(p);
    const bool unchanged = multiply(*table, p, x).bytes() == x.c.array.bytes();
    CHECK(unchanged);
  }
}

TEST_CASE("matmul: a NaN or infinity reaches its row or column and no other element", "[kernels]") {
  for (const KernelTable* table : usable_tables()) {
    for (int64_t m : {7, 37}) {
      for (int way = 0; way < 4; ++way) {
        const Problem p = {.m = m,
                           .n = 45,
                           .k = 50,
                           .k2 = 3,
                           .transpose_a = way % 2 != 0,
                           .transpose_b = way >= 2};
        INFO(table->name << ": " << p.text());
        Operands x(p);
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
