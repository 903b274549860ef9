// SPDX-License-Identifier: Apache-2.0
// Computes    a step of Adafactor (formulas in core/kernel_table.h).
// Layout      a matrix, row by row; or a vector.
// Work split  at most 64 runs of rows, the same for any number of threads, in three passes: the means
//             of the squared gradients, the size of the update, the update. Sums of runs are added in
//             order.
// Numerics    fp32, sums over a run of rows included; over runs, and of squares of u and w, in double;
//             bf16 weights rounded stochastically.
// Traffic     reads the gradient three times and the weights twice, writes the weights.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rounding.h"
#include "kernels/cpu/row_sums.h"
#include "kernels/cpu/step_factor.h"

namespace tenon::cpu::TENON_ISA {
namespace {

constexpr int64_t kRuns = 64;

template <class T>
class Step {
 public:
  Step(const AdafactorArgs& a, float factor)
      : a_(a),
        factor_(factor),
        run_rows_(divide_up(a.rows, kRuns)),
        runs_(divide_up(a.rows, run_rows_)) {
    const int64_t doubles = 3 * runs_, floats = runs_ * a.columns;
    row_sums_ = static_cast<double*>(thread_scratch(kPartialSlot, doubles * 8 + floats * 4));
    squares_ = row_sums_ + runs_;
    weight_squares_ = squares_ + runs_;
    column_sums_ = reinterpret_cast<float*>(weight_squares_ + runs_);
  }

  void run() {
    measure();
    join_columns();
    inverse_mean_ =
        1.0f /
        larger(static_cast<float>(total(row_sums_) / static_cast<double>(a_.rows)), a_.least_mean);
    for_runs([&](int64_t, int64_t row, double* sum) { *sum += update_squares(row); }, squares_);
    const double rms = __builtin_sqrt(total(squares_) / count()) / static_cast<double>(a_.most_rms);
    const double scale = __builtin_sqrt(total(weight_squares_) / count());
    const double least = static_cast<double>(a_.least_scale);
    rate_ = static_cast<float>(static_cast<double>(a_.rate) * (scale > least ? scale : least) /
                               (rms > 1 ? rms : 1));
    for_chunks(runs_, [&](int64_t run) {
      Weights<T> weights(a_.weight, a_.rounding, a_.number);
      for_rows(run, [&](int64_t row) { update(weights, row); });
    });
  }

 private:
  double count() const { return static_cast<double>(a_.rows) * static_cast<double>(a_.columns); }
  static float larger(float a, float b) { return a > b ? a : b; }
  double total(const double* sums) const {
    double sum = 0;
    for (int64_t run = 0; run < runs_; ++run) sum += sums[run];
    return sum;
  }
  template <class Body>
  void for_rows(int64_t run, const Body& body) const {
    const int64_t end = smaller(a_.rows, (run + 1) * run_rows_);
    for (int64_t row = run * run_rows_; row < end; ++row) body(row);
  }
  // Calls body(run, row, sum) for all rows; sums[run] begins at 0.
  template <class Body>
  void for_runs(const Body& body, double* sums) const {
    for_chunks(runs_, [&](int64_t run) {
      sums[run] = 0;
      for_rows(run, [&](int64_t row) { body(run, row, sums + run); });
    });
  }

  // The first pass: rows' means, runs' column sums, squares of the weights.
  void measure() {
    for_runs(
        [&](int64_t run, int64_t row, double* row_sum) {
          float* columns = column_sums_ + run * a_.columns;
          if (row == run * run_rows_) {
            weight_squares_[run] = 0;
            for (int64_t j = 0; j < a_.columns; ++j) columns[j] = 0;
          }
          const float* grad = a_.grad + row * a_.columns;
          Weights<T> weights(a_.weight, a_.rounding, a_.number);
          Sums sum, weight_sum;
          for_vectors(a_.columns, [&](int64_t j, int64_t left, int part) {
            const Vec g = Vec::load(grad + j, left) * Vec::all(factor_);
            const Vec w = weights.load(row * a_.columns + j, left);
            sum.part[part] = fma(g, g, sum.part[part]);
            weight_sum.part[part] = fma(w, w, weight_sum.part[part]);
            fma(g, g, Vec::load(columns + j, left)).store(columns + j, left);
          });
          weight_squares_[run] += static_cast<double>(weight_sum.total().sum());
          if (a_.v != nullptr) return;
          const float mean = sum.total().sum() / static_cast<float>(a_.columns);
          a_.row[row] += a_.fresh * (mean - a_.row[row]);
          *row_sum += static_cast<double>(a_.row[row]);
        },
        row_sums_);
  }

  void join_columns() {
    for_ranges(a_.columns, 1024, [&](int64_t begin, int64_t end) {
      float* kept = a_.v != nullptr ? a_.v : a_.column;
      for (int64_t j = begin; j < end; ++j) {
        double sum = 0;
        for (int64_t run = 0; run < runs_; ++run)
          sum += static_cast<double>(column_sums_[run * a_.columns + j]);
        const auto mean = static_cast<float>(sum / static_cast<double>(a_.rows));
        kept[j] += a_.fresh * (mean - kept[j]);
      }
    });
  }

  // u of a vector of the gradient at column j. row_scale: the row's mean by the mean of them.
  Vec update_of(const float* grad, int64_t j, int64_t left, Vec row_scale) const {
    const Vec variance = Vec::load((a_.v != nullptr ? a_.v : a_.column) + j, left) * row_scale;
    return Vec::load(grad + j, left) * Vec::all(factor_) /
           sqrt(max(variance, Vec::all(a_.least_variance)));
  }
  Vec row_scale(int64_t row) const {
    return Vec::all(a_.v != nullptr ? 1.0f : a_.row[row] * inverse_mean_);
  }

  double update_squares(int64_t row) const {
    const float* grad = a_.grad + row * a_.columns;
    const Vec scale = row_scale(row);
    Sums sum;
    for_vectors(a_.columns, [&](int64_t j, int64_t left, int part) {
      const Vec u = update_of(grad, j, left, scale);
      sum.part[part] = fma(u, u, sum.part[part]);
    });
    return static_cast<double>(sum.total().sum());
  }

  void update(Weights<T>& weights, int64_t row) const {
    const float* grad = a_.grad + row * a_.columns;
    const Vec scale = row_scale(row), rate = Vec::all(rate_),
              decay = Vec::all(a_.lr * a_.weight_decay);
    for (int64_t j = 0; j < a_.columns; j += kLanes) {
      const int64_t left = a_.columns - j, i = row * a_.columns + j;
      const Vec w = weights.load(i, left);
      weights.store(fnma(rate, update_of(grad, j, left, scale), fnma(decay, w, w)), i, left);
    }
  }

  const AdafactorArgs& a_;
  const float factor_;
  const int64_t run_rows_, runs_;
  double *row_sums_, *squares_, *weight_squares_;  // (runs)
  float* column_sums_;                             // (runs, columns)
  float inverse_mean_ = 0, rate_ = 0;
};

}  // namespace

void adafactor(const AdafactorArgs& a) {
  float factor = 0;
  if (a.rows * a.columns == 0 || !factor_of(a.scale, &factor)) return;
  dispatch_float(a.dtype, [&](auto element) { Step<decltype(element)>(a, factor).run(); });
}

}  // namespace tenon::cpu::TENON_ISA
