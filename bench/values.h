// SPDX-License-Identifier: Apache-2.0
// Reproducible values for operands, and how they are read back, in double.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace tenon::bench {

// Uniform in [low, high), rounded to `dtype`; int8 takes whole numbers of the whole range. Large
// arrays repeat after some 10^5 elements.
Tensor drawn(const Shape& shape, DType dtype, uint32_t seed, double low = -1, double high = 1);

// int32 in [0, most).
Tensor drawn_ids(int64_t count, int64_t most, uint32_t seed);

// Element `i` of an array of any of the number types that kernels compute with.
double element(const void* data, DType dtype, int64_t i);
inline double element(const Tensor& tensor, int64_t i) {
  return element(tensor.raw(), tensor.dtype(), i);
}

// A sum of products in double, with the sum of their magnitudes.
struct Sum {
  double exact = 0, magnitude = 0;
  void add(double product, double size) {
    exact += product;
    magnitude += size;
  }
};
// Elements of a tensor that lie `step` apart.
struct Run {
  const Tensor& tensor;
  int64_t first = 0, step = 1;
};
// scale times the sum of a[i] b[i].
Sum dot(Run a, Run b, int64_t count, double scale = 1);

// What an fp32 sum of `terms` products may be off by, as a share of the sum of their magnitudes:
// 8 sqrt(K) u as rounding errors add up, and never more than K u / (1 - K u).
double sum_share(double terms);

// The relative error of one rounding to this dtype.
double roundoff(DType dtype);

// The largest of the errors that were looked at, as a share of their bounds.
class Errors {
 public:
  explicit Errors(std::string what) : what_(std::move(what)) {}
  // Throws Error(kInternal) naming `where` unless |got - exact| <= bound.
  void check(double got, double exact, double bound, const std::string& where);
  double worst() const { return worst_; }

 private:
  std::string what_;
  double worst_ = 0;
};

}  // namespace tenon::bench
