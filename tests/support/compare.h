// SPDX-License-Identifier: Apache-2.0
// Comparison with a derived bound, and the arrays that kernel tests run on: random values, guard
// bytes around them.
#pragma once

#include <fmt/core.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/support/bound.h"
#include "tests/support/half.h"
#include "tests/support/placed_bytes.h"

namespace tenon::test {

struct Comparison {
  bool within = true;
  std::string report;  // the worst element and the share of the bound that it uses
};

// Compares element by element. An error that is not at most its bound fails, so NaN fails; equal
// infinities pass.
template <class Got, class Want>
Comparison compare(const std::vector<Got>& got, const std::vector<Want>& want, const Bound& bound) {
  if (got.size() != want.size())
    return {false, fmt::format("{} elements, expected {}", got.size(), want.size())};
  double worst_share = -1;
  size_t worst = 0, failures = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
    if (std::isinf(w) && g == w) continue;
    const double error = std::fabs(g - w), limit = std::isinf(w) ? 0 : bound.at(i, w);
    const bool fails = !(error <= limit);
    if (fails) ++failures;
    const double share = fails && !(error > limit) ? INFINITY : error == 0 ? 0 : error / limit;
    if (share > worst_share) {
      worst_share = share;
      worst = i;
    }
  }
  if (want.empty() || worst_share < 0) return {failures == 0, "no finite elements"};
  return {failures == 0, fmt::format("{} of {} elements beyond the bound; worst: element {} is "
                                     "{:.9g}, expected {:.9g}, uses {:.3g} of its "
                                     "bound",
                                     failures, want.size(), worst, static_cast<double>(got[worst]),
                                     static_cast<double>(want[worst]), worst_share)};
}

#define CHECK_WITHIN(got, want, bound)                                                      \
  do {                                                                                      \
    const ::tenon::test::Comparison comparison_ = ::tenon::test::compare(got, want, bound); \
    INFO(comparison_.report);                                                               \
    CHECK(comparison_.within);                                                              \
  } while (false)

// `count` values, uniform in [low, high), fixed by the seed.
inline std::vector<float> random_values(int64_t count, uint32_t seed, float low = -1,
                                        float high = 1) {
  std::mt19937 generator(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = low + (high - low) * static_cast<float>(generator() >> 8) * 0x1p-24f;
  return values;
}

// An array of floats of any dtype between guard bytes, at an address that is aligned to its element
// and no more; on a device, where `placement` says.
class GuardedArray {
 public:
  GuardedArray(DType dtype, int64_t count)
      : dtype_(dtype), count_(count), bytes_(count * size_of(dtype), size_of(dtype), kGuard) {}
  // Holds `values` rounded to dtype.
  GuardedArray(DType dtype, const std::vector<float>& values)
      : GuardedArray(dtype, static_cast<int64_t>(values.size())) {
    unsigned char* to = host();
    for (int64_t i = 0; i < count_; ++i)
      store_element(dtype_, to, i, static_cast<double>(values[static_cast<size_t>(i)]));
  }

  DType dtype() const { return dtype_; }
  int64_t count() const { return count_; }
  // For kernels. On a device the address serves until the array is read or set from the host.
  void* data() { return bytes_.for_kernel(); }
  const void* data() const { return bytes_.for_kernel(); }
  // The elements on the host.
  unsigned char* host() { return bytes_.host(); }
  const unsigned char* host() const { return bytes_.host(); }
  double get(int64_t i) const { return load_element(dtype_, host(), i); }
  void set(int64_t i, double value) { store_element(dtype_, host(), i, value); }
  std::vector<double> values() const {
    std::vector<double> out(static_cast<size_t>(count_));
    for (int64_t i = 0; i < count_; ++i) out[static_cast<size_t>(i)] = get(i);
    return out;
  }
  // True for an element that nobody has written since the array was made empty.
  bool untouched(int64_t i) const {
    const unsigned char* at = host() + i * size_of(dtype_);
    for (int64_t b = 0; b < size_of(dtype_); ++b) {
      if (at[b] != PlacedBytes::kFill) return false;
    }
    return true;
  }
  // True while the bytes before and after the array are as they were.
  bool guards_intact() const { return bytes_.guards_intact(); }
  const std::vector<unsigned char>& bytes() const { return bytes_.all(); }

 private:
  static constexpr int64_t kGuard =
      68;  // a multiple of 4 and not of 8: no vector load may count on alignment
  DType dtype_;
  int64_t count_;
  PlacedBytes bytes_;
};

}  // namespace tenon::test
