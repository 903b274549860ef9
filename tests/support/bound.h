// SPDX-License-Identifier: Apache-2.0
// How far a kernel's result may lie from the exact one: derived from how it sums and rounds,
// element by element.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/support/half.h"

namespace tenon::test {

struct Bound {
  std::vector<double> absolute;  // one for each element, or a single one for all
  double relative = 0;           // of |exact|, on top
  double smallest = 0;           // on top: rounding near zero

  // A sum of `terms` products in fp32, each product and each partial sum rounded once; magnitude[i]
  // = sum of |terms| of element i. Errors of random sign give 8 sqrt(terms) u; the rigorous bound
  // caps it for short sums.
  static Bound sum(int64_t terms, std::vector<double> magnitude) {
    const double u = unit_roundoff(DType::kF32), count = static_cast<double>(terms);
    const double factor = std::min(8 * std::sqrt(count) * u, count * u / (1 - count * u));
    for (double& m : magnitude) m = factor * m + underflow_error(DType::kF32) * count;
    return {.absolute = std::move(magnitude)};
  }
  // A fixed share of each element's magnitude: sum of |terms| for what cancels, |exact| for what
  // does not.
  static Bound share(double share, std::vector<double> magnitude) {
    for (double& m : magnitude) m *= share;
    return {.absolute = std::move(magnitude)};
  }
  static Bound fixed(double absolute) { return {.absolute = {absolute}}; }
  // `ulps` roundings of fp32 on a result that does not cancel.
  static Bound ulps(double ulps) {
    return {.absolute = {0},
            .relative = ulps * 2 * unit_roundoff(DType::kF32),
            .smallest = underflow_error(DType::kF32)};
  }
  // Then stored as dtype: one rounding of what was computed.
  Bound then_round(DType dtype) const {
    const double u = unit_roundoff(dtype);
    Bound b = *this;
    for (double& a : b.absolute) a *= 1 + u;
    b.relative = relative * (1 + u) + u;
    b.smallest = smallest + underflow_error(dtype);
    return b;
  }
  double at(size_t i, double exact) const {
    return absolute[absolute.size() == 1 ? 0 : i] + relative * std::fabs(exact) + smallest;
  }
};

}  // namespace tenon::test
