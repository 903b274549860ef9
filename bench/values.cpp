// SPDX-License-Identifier: Apache-2.0
#include "bench/values.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "core/error.h"
#include "tests/support/half.h"

namespace tenon::bench {
namespace {

// A prime, so that rows of usual widths differ from each other.
constexpr int64_t kPeriod = 131'071;

}  // namespace

Tensor drawn(const Shape& shape, DType dtype, uint32_t seed, double low, double high) {
  Tensor tensor = Tensor::empty(shape, dtype);
  const int64_t own = std::min(tensor.numel(), kPeriod), size = size_of(dtype);
  std::mt19937 generator(seed);
  for (int64_t i = 0; i < own; ++i) {
    const double share = static_cast<double>(generator()) * 0x1p-32;
    if (dtype == DType::kI8) {
      tensor.data<int8_t>()[i] = static_cast<int8_t>(std::lrint(share * 254 - 127));
    } else {
      test::store_element(dtype, tensor.raw(), i, low + (high - low) * share);
    }
  }
  auto* bytes = static_cast<std::byte*>(tensor.raw());
  for (int64_t done = own; done < tensor.numel();) {
    const int64_t count = std::min(own, tensor.numel() - done);
    std::memcpy(bytes + done * size, bytes, static_cast<size_t>(count * size));
    done += count;
  }
  return tensor;
}

Tensor drawn_ids(int64_t count, int64_t most, uint32_t seed) {
  Tensor tensor = Tensor::empty({count}, DType::kI32);
  std::mt19937 generator(seed);
  for (int64_t i = 0; i < count; ++i)
    tensor.data<int32_t>()[i] = static_cast<int32_t>(generator() % static_cast<uint64_t>(most));
  return tensor;
}

double element(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kI8) return static_cast<const int8_t*>(data)[i];
  return test::load_element(dtype, data, i);
}

Sum dot(Run a, Run b, int64_t count, double scale) {
  Sum sum;
  for (int64_t i = 0; i < count; ++i) {
    const double product =
        scale * element(a.tensor, a.first + i * a.step) * element(b.tensor, b.first + i * b.step);
    sum.add(product, std::fabs(product));
  }
  return sum;
}

double sum_share(double terms) {
  const double u = roundoff(DType::kF32);
  return std::min(8 * std::sqrt(terms) * u, terms * u / (1 - terms * u));
}

double roundoff(DType dtype) { return test::unit_roundoff(dtype); }

void Errors::check(double got, double exact, double bound, const std::string& where) {
  const double error = std::fabs(got - exact);
  if (!(error <= bound))
    fail(Exit::kInternal, "[{}] {} is {}, expected {} within {}", what_, where, got, exact, bound);
  if (bound > 0) worst_ = std::max(worst_, error / bound);
}

}  // namespace tenon::bench
