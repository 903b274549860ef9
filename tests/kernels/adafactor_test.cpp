// SPDX-License-Identifier: Apache-2.0
// Adafactor against double precision.
#include <cmath>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/rounding.h"

namespace tenon::test {
namespace {

struct Matrix {
  int64_t rows, columns;
};

// Adafactor in double, from the same numbers.
struct Factored {
  std::vector<double> w, row, column;
};
Factored adafactor(const AdafactorArgs& a, const GuardedArray& w, const GuardedArray& g,
                   const GuardedArray& row, const GuardedArray& column) {
  const int64_t rows = a.rows, columns = a.columns;
  const double fresh = a.fresh, count = static_cast<double>(rows * columns);
  Factored out{w.values(), row.values(), column.values()};
  const auto grad = [&](int64_t i) { return g.get(i) * a.scale.unscale; };
  std::vector<double> row_means(static_cast<size_t>(rows)),
      column_means(static_cast<size_t>(columns));
  double weight_squares = 0;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const double square = grad(i) * grad(i);
    row_means[static_cast<size_t>(i / columns)] += square / static_cast<double>(columns);
    column_means[static_cast<size_t>(i % columns)] += square / static_cast<double>(rows);
    weight_squares += w.get(i) * w.get(i);
  }
  double mean = 0;
  for (size_t r = 0; r < row_means.size() && a.v == nullptr; ++r) {
    out.row[r] += fresh * (row_means[r] - out.row[r]);
    mean += out.row[r] / static_cast<double>(rows);
  }
  for (size_t c = 0; c < column_means.size(); ++c)
    out.column[c] += fresh * (column_means[c] - out.column[c]);
  std::vector<double> u(out.w.size());
  double squares = 0;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const auto r = static_cast<size_t>(i / columns), c = static_cast<size_t>(i % columns);
    const double variance = a.v != nullptr ? out.column[c]
                                           : out.row[r] * out.column[c] /
                                                 std::max(mean, static_cast<double>(a.least_mean));
    u[static_cast<size_t>(i)] =
        grad(i) / std::sqrt(std::max(variance, static_cast<double>(a.least_variance)));
    squares += u[static_cast<size_t>(i)] * u[static_cast<size_t>(i)];
  }
  const double size =
      std::max(static_cast<double>(a.least_scale), std::sqrt(weight_squares / count));
  const double rms = std::sqrt(squares / count) / static_cast<double>(a.most_rms);
  const double rate = static_cast<double>(a.rate) * size / std::max(1.0, rms);
  for (size_t i = 0; i < u.size(); ++i) {
    out.w[i] -= static_cast<double>(a.lr) * static_cast<double>(a.weight_decay) * out.w[i];
    out.w[i] -= rate * u[i];
  }
  return out;
}

}  // namespace

TEST_CASE("adafactor steps as its formula says", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const auto& [rows, columns] :
         {Matrix{1, 1}, {1, 5000}, {3, 7}, {5, 16}, {64, 33}, {65, 64}, {131, 257}, {700, 3}}) {
      for (const bool vector : {false, true}) {
        if (vector && rows != 1) continue;
        for (const double weight : {1.0, 1e-6}) {
          CAPTURE(target.name, rows, columns, vector, weight);
          const auto scale = static_cast<float>(weight);
          const GuardedArray g(DType::kF32, random_values(rows * columns, 2));
          const GuardedArray first_row(DType::kF32, random_values(rows, 3, 0.1f, 1)),
              first_column(DType::kF32, random_values(columns, 4, 0.1f, 1));
          const GuardedArray first_w(DType::kF32, random_values(rows * columns, 1, -scale, scale));
          AdafactorArgs a{.grad = floats(g),
                          .rows = rows,
                          .columns = columns,
                          .scale = {.unscale = 0.5},
                          .rounding = kRounding,
                          .lr = 0.05f,
                          .weight_decay = 0.1f,
                          .rate = 0.04f,
                          .fresh = 0.3f,
                          .least_mean = 1e-30f,
                          .least_variance = 1e-30f,
                          .least_scale = 1e-3f,
                          .most_rms = 0.75f};
          const auto got = run_on_threads([&] {
            std::vector<GuardedArray> out = {first_w, first_row, first_column};
            a.weight = out[0].data();
            a.row = vector ? nullptr : floats(out[1]);
            a.column = vector ? nullptr : floats(out[2]);
            a.v = vector ? floats(out[2]) : nullptr;
            table->adafactor(a);
            return out;
          });
          const Factored want = adafactor(a, first_w, g, first_row, first_column);
          // All terms of the means are positive: sums of n terms in pieces of kLanes and of 4 sums.
          const double sums = static_cast<double>(columns + rows + 16) * u32();
          std::vector<double> w_error;
          for (size_t i = 0; i < want.w.size(); ++i) {
            const double step = want.w[i] - first_w.get(static_cast<int64_t>(i));
            w_error.push_back((2 * sums + 16 * u32()) *
                                  (std::fabs(step) + 0.005 * std::fabs(want.w[i])) +
                              2 * u32() * std::fabs(want.w[i]));
          }
          CHECK_WITHIN(got[0].values(), want.w, Bound{.absolute = w_error});
          CHECK_WITHIN(got[1].values(), want.row, (Bound{.absolute = {0}, .relative = sums}));
          CHECK_WITHIN(got[2].values(), want.column, (Bound{.absolute = {0}, .relative = sums}));
        }
      }
    }
  }
}

TEST_CASE(
    "adafactor rounds half weights by their place, and writes nothing where a gradient is not "
    "finite",
    "[kernels]") {
  constexpr int64_t kRows = 33, kColumns = 71;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType narrow : {DType::kBF16, DType::kF16}) {
      CAPTURE(target.name, name_of(narrow));
      const GuardedArray g(DType::kF32, random_values(kRows * kColumns, 2));
      const auto step = [&](DType dtype, double sum) {
        const PlacedArray<double> squares({sum});
        const GuardedArray half(narrow, random_values(kRows * kColumns, 1));
        const std::vector<double> values = half.values();
        std::vector<GuardedArray> out = {
            GuardedArray(dtype, std::vector<float>(values.begin(), values.end())),
            GuardedArray(DType::kF32, std::vector<float>(kRows, 0.5f)),
            GuardedArray(DType::kF32, std::vector<float>(kColumns, 0.5f))};
        table->adafactor({.weight = out[0].data(),
                          .grad = floats(g),
                          .row = floats(out[1]),
                          .column = floats(out[2]),
                          .rows = kRows,
                          .columns = kColumns,
                          .dtype = dtype,
                          .number = 3,
                          .scale = {.sum_squares = squares.data(), .unscale = 1, .max_norm = 1},
                          .rounding = kRounding,
                          .lr = 0.05f,
                          .rate = 0.05f,
                          .fresh = 1,
                          .least_mean = 1e-30f,
                          .least_variance = 1e-30f,
                          .least_scale = 1e-3f});
        return out;
      };
      const auto wide = step(DType::kF32, 4.0), half = step(narrow, 4.0);
      int64_t wrong = 0;
      for (int64_t i = 0; i < kRows * kColumns; ++i)
        wrong += half[0].get(i) != rounded(narrow, wide[0].get(i), 3, i);
      CHECK(wrong == 0);
      CHECK(half[1].bytes() == wide[1].bytes());
      const auto left = step(narrow, INFINITY);
      const GuardedArray before(narrow, random_values(kRows * kColumns, 1));
      CHECK(left[0].bytes() == before.bytes());
      CHECK(left[1].get(0) == 0.5);
    }
  }
}

}  // namespace tenon::test
