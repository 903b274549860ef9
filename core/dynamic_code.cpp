// SPDX-License-Identifier: Apache-2.0
#include "core/dynamic_code.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace tenon {
namespace {

// 0, 1, and in each of seven decades the middles of equal parts of [0.1, 1], twice as many as in the
// decade below; with a sign, half as many and their negatives.
std::vector<float> dynamic_numbers(bool with_sign) {
  constexpr int kDecades = 7;
  std::vector<float> all = {0.0f, 1.0f};
  for (int i = 0; i < kDecades; ++i) {
    const int items = (1 << (with_sign ? i : i + 1)) + 1;
    const double power = std::pow(10.0, i - (kDecades - 1));
    // torch.linspace in fp32: from both ends towards the middle, each in one rounding.
    const float step = (1.0f - 0.1f) / static_cast<float>(items - 1);
    const auto boundary = [&](int k) {
      return 2 * k < items ? std::fma(step, static_cast<float>(k), 0.1f)
                           : std::fma(-step, static_cast<float>(items - 1 - k), 1.0f);
    };
    for (int k = 0; k + 1 < items; ++k) {
      const float mean = (boundary(k) + boundary(k + 1)) / 2.0f;
      const auto number = static_cast<float>(power) * mean;
      all.push_back(number);
      if (with_sign) all.push_back(-number);
    }
  }
  std::sort(all.begin(), all.end());
  return all;
}

DynamicCode make(bool with_sign) {
  DynamicCode code{};
  const std::vector<float> numbers = dynamic_numbers(with_sign);
  std::copy(numbers.begin(), numbers.end(), code.numbers);
  for (int c = 0; c < 255; ++c)
    code.between[c] = code.numbers[c] + (code.numbers[c + 1] - code.numbers[c]) / 2;
  code.between[255] = std::numeric_limits<float>::infinity();
  const auto code_of = [&](float x) {
    return static_cast<uint8_t>(std::lower_bound(code.between, code.between + 255, x) -
                                code.between);
  };
  constexpr uint32_t kLeast = uint32_t{127 - DynamicCode::kOctaves} << 23;
  for (uint32_t b = 0; b < DynamicCode::kBuckets; ++b) {
    const uint32_t from = b == 0 ? 0 : kLeast + ((b - 1) << 16), to = kLeast + (b << 16);
    code.first[0][b] = code_of(std::bit_cast<float>(from));
    code.first[1][b] = code_of(-std::bit_cast<float>(to - 1));
  }
  return code;
}

}  // namespace

const DynamicCode& signed_dynamic_code() {
  static const DynamicCode code = make(true);
  return code;
}

const DynamicCode& unsigned_dynamic_code() {
  static const DynamicCode code = make(false);
  return code;
}

}  // namespace tenon
