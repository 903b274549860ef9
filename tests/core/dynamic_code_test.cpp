// SPDX-License-Identifier: Apache-2.0
// The 8-bit codes against their description in double.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "core/dynamic_code.h"

namespace tenon::test {
namespace {

// create_dynamic_map: seven decades, in each the middles of 2^i equal parts of [0.1, 1] (2^(i+1)
// without a sign), and 0 and 1.
std::vector<double> numbers(bool with_sign) {
  std::vector<double> all = {0, 1};
  for (int i = 0; i < 7; ++i) {
    const int parts = 1 << (with_sign ? i : i + 1);
    for (int k = 0; k < parts; ++k) {
      const double x = std::pow(10.0, i - 6) * (0.1 + 0.9 * (k + 0.5) / parts);
      all.push_back(x);
      if (with_sign) all.push_back(-x);
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST_CASE("the dynamic codes have their numbers, and buckets that lead to the nearest", "[core]") {
  const bool with_sign = GENERATE(true, false);
  const DynamicCode& code = with_sign ? signed_dynamic_code() : unsigned_dynamic_code();
  const std::vector<double> want = numbers(with_sign);
  REQUIRE(want.size() == 256);
  for (size_t c = 0; c < 256; ++c)
    CHECK(std::fabs(static_cast<double>(code.numbers[c]) - want[c]) <= 4e-7 * std::fabs(want[c]));
  // torch's sums of the numbers and of their squares in double, of bitsandbytes 0.50's map.
  double sum = 0, squares = 0;
  for (const float number : code.numbers) {
    sum += static_cast<double>(number);
    squares += static_cast<double>(number) * static_cast<double>(number);
  }
  CHECK(std::fabs(sum - (with_sign ? 1.0 : 75.1052632433869)) < 1e-12);
  CHECK(std::fabs(squares - (with_sign ? 48.59583766729017 : 48.597452105100956)) < 1e-12);
  // No bucket holds two numbers of `between`, and the first code of each is that of its least number.
  for (const bool negative : {false, true}) {
    for (uint32_t b = 0; b < DynamicCode::kBuckets; ++b) {
      const uint32_t least = uint32_t{127 - DynamicCode::kOctaves} << 23;
      const float from = b == 0 ? 0 : std::bit_cast<float>(least + ((b - 1) << 16)),
                  to = std::bit_cast<float>(least + (b << 16) - 1);
      const float low = negative ? -to : from, high = negative ? -from : to;
      const auto below = [&](float x) {
        return std::lower_bound(code.between, code.between + 255, x) - code.between;
      };
      const int first = code.first[negative ? 1 : 0][b];
      if (first != below(low) || below(high) - first > 1) FAIL_CHECK("bucket " << b);
    }
  }
}

}  // namespace tenon::test
