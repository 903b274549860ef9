// SPDX-License-Identifier: Apache-2.0
// What the matmul tests of both devices share: a problem, its operands as they lie in memory, and
// the product's result with all that lies around it.
#pragma once

#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "core/kernel_table.h"
#include "tests/support/compare.h"

namespace tenon::test {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct MatmulProblem {
  int64_t m = 0, n = 0, k = 0, k2 = 0;
  bool transpose_a = false, transpose_b = false;
  DType a = DType::kF32, b = DType::kF32, a2 = DType::kF32, b2 = DType::kF32, c = DType::kF32;
  bool bias = false, accumulate = false;
  float alpha = 1;
  DType precision = DType::kF32;  // what fp32 operands may be rounded to
  int64_t gap = 0;                // elements between one stored row and the next
  bool aligned = false;           // arrays to 16 bytes, else to their element only
  bool padded = false;            // rows to a multiple of 8 elements

  std::string text() const {
    return fmt::format(
        "m={} n={} k={}+{} {}{} {}x{}+{}x{}->{} bias={} accumulate={} alpha={} gap={} {}{}", m, n,
        k, k2, transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', name_of(a), name_of(b),
        name_of(a2), name_of(b2), name_of(c), bias, accumulate, alpha, gap,
        aligned ? "aligned" : "", padded ? " padded" : "");
  }
};

// A stored matrix; between its rows lie NaN, which must never reach a result.
struct StoredMatrix {
  StoredMatrix(const MatmulProblem& p, DType dtype, int64_t rows, int64_t columns, bool transpose,
               int64_t gap, uint32_t seed)
      : transposed(transpose),
        stride(stride_of(p, (transpose ? rows : columns) + gap)),
        array(dtype, elements(transpose ? columns : rows, transpose ? rows : columns)),
        values(rows, columns) {
    for (int64_t i = 0; i < array.count(); ++i) array.set(i, NAN);
    const std::vector<float> random = random_values(rows * columns, seed);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        set(r, c, random[static_cast<size_t>(r * columns + c)]);
      }
    }
  }
  static int64_t stride_of(const MatmulProblem& p, int64_t width) {
    return p.padded ? (width + 7) / 8 * 8 : width;
  }
  // Nothing follows the last row, so that who reads on leaves the array.
  int64_t elements(int64_t stored_rows, int64_t width) const {
    return stored_rows == 0 ? 0 : (stored_rows - 1) * stride + width;
  }
  void set(int64_t row, int64_t column, double value) {
    const int64_t at = transposed ? column * stride + row : row * stride + column;
    array.set(at, value);
    values(row, column) = array.get(at);
  }
  MatrixOperand operand() const {
    return {array.count() == 0 ? nullptr : array.data(), stride, transposed, array.dtype()};
  }
  // The values as a product that rounds its operands to `type` sees them.
  Matrix rounded(DType type) const {
    if (type == array.dtype()) return values;
    return values.unaryExpr([type](double v) { return round_to(type, v); });
  }

  bool transposed;
  int64_t stride;
  GuardedArray array;
  Matrix values;
};

// An operand of int8 numbers with a scale for each stored row; the gaps between rows hold -128.
struct Int8Matrix {
  Int8Matrix(int64_t rows, int64_t columns, bool transpose, int64_t gap, uint32_t seed)
      : transposed(transpose),
        stride((transpose ? rows : columns) + gap),
        stored_rows(transpose ? columns : rows),
        numbers(static_cast<size_t>(stored_rows == 0 ? 0 : stored_rows * stride - gap), -128),
        scales(random_values(stored_rows, seed, 0.001f, 0.02f)),
        values(rows, columns) {
    const std::vector<float> random = random_values(rows * columns, seed + 1, -127, 127);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        const int64_t row = transpose ? c : r, column = transpose ? r : c;
        const auto number = static_cast<int8_t>(random[static_cast<size_t>(r * columns + c)]);
        numbers[static_cast<size_t>(row * stride + column)] = number;
        values(r, c) =
            static_cast<double>(number) * static_cast<double>(scales[static_cast<size_t>(row)]);
      }
    }
  }
  MatrixOperand operand() const {
    return {numbers.data(), stride, transposed, DType::kI8, scales.data()};
  }

  bool transposed;
  int64_t stride, stored_rows;
  std::vector<int8_t> numbers;
  std::vector<float> scales;
  Matrix values;
};

struct MatmulOperands {
  explicit MatmulOperands(const MatmulProblem& p)
      : a(p, p.a, p.m, p.k, p.transpose_a, p.gap, 1),
        b(p, p.b, p.k, p.n, p.transpose_b, p.gap, 2),
        a2(p, p.a2, p.m, p.k2, p.transpose_a, p.gap + 1, 3),
        b2(p, p.b2, p.k2, p.n, !p.transpose_b, p.gap, 4),
        c(p, p.c, p.m, p.n, false, p.gap, 5),
        bias(DType::kF32, random_values(p.n, 6)) {
    if (p.accumulate) return;
    for (int64_t i = 0; i < c.array.count(); ++i) c.array.set(i, NAN);  // must not be read
  }
  StoredMatrix a, b, a2, b2, c;
  GuardedArray bias;
};

// c after the product of `a` and `b`, as bytes with its guards and gaps. All else is the problem's.
inline GuardedArray multiply(const KernelTable& table, const MatmulProblem& p,
                             const MatmulOperands& x, const MatrixOperand& a,
                             const MatrixOperand& b, const MatrixOperand& a2,
                             const MatrixOperand& b2) {
  GuardedArray c = x.c.array;
  table.matmul({.a = a,
                .b = b,
                .a2 = a2,
                .b2 = b2,
                .c = c.data(),
                .c_stride = x.c.stride,
                .c_dtype = p.c,
                .m = p.m,
                .n = p.n,
                .k = p.k,
                .k2 = p.k2,
                .alpha = p.alpha,
                .bias = p.bias ? static_cast<const float*>(x.bias.data()) : nullptr,
                .accumulate = p.accumulate,
                .precision = p.precision});
  return c;
}
inline GuardedArray multiply(const KernelTable& table, const MatmulProblem& p,
                             const MatmulOperands& x) {
  return multiply(table, p, x, x.a.operand(), x.b.operand(), x.a2.operand(), x.b2.operand());
}

// The elements of c without the gaps; checks that the gaps and guards are as they were.
inline std::vector<double> results(const MatmulProblem& p, const MatmulOperands& x,
                                   const GuardedArray& c) {
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

}  // namespace tenon::test
