// SPDX-License-Identifier: Apache-2.0
#include "core/finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "core/for_pieces.h"

namespace tenon {
namespace {

constexpr uint16_t kF16Exponent = 0x7c00, kBF16Exponent = 0x7f80;
constexpr uint32_t kF32Exponent = 0x7f800000;
constexpr int64_t kChunk = int64_t{1} << 20;  // elements that a thread looks at

template <class Bits>
Bits bits_at(const std::byte* data, int64_t index) {
  Bits bits;
  std::memcpy(&bits, data + index * static_cast<int64_t>(sizeof bits), sizeof bits);
  return bits;
}

// The first of `count` elements whose exponent has all bits set, or -1. A block is looked at as a
// whole, without a branch in it.
template <class Bits>
int64_t first_with(Bits exponent, const std::byte* data, int64_t count) {
  constexpr int64_t kBlock = 4096;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    Bits found = 0;
    for (int64_t i = begin; i < end; ++i) {
      const auto masked = static_cast<Bits>(bits_at<Bits>(data, i) & exponent);
      found = static_cast<Bits>(found | (masked == exponent ? 1 : 0));
    }
    for (int64_t i = begin; found != 0 && i < end; ++i) {
      if ((bits_at<Bits>(data, i) & exponent) == exponent) return i;
    }
  }
  return -1;
}

int64_t first_in(const std::byte* data, int64_t count, DType dtype) {
  if (dtype == DType::kF32) return first_with(kF32Exponent, data, count);
  return first_with(dtype == DType::kF16 ? kF16Exponent : kBF16Exponent, data, count);
}

}  // namespace

int64_t first_not_finite(const void* data, int64_t count, DType dtype) {
  if (!is_float(dtype)) return -1;
  const auto* bytes = static_cast<const std::byte*>(data);
  std::atomic<int64_t> first = count;
  for_pieces(count, kChunk, [&](int64_t begin, int64_t end) {
    if (first.load() < begin) return;
    const int64_t found = first_in(bytes + begin * size_of(dtype), end - begin, dtype);
    if (found >= 0) keep_least(first, begin + found);
  });
  return first.load() == count ? -1 : first.load();
}

float element_of(const void* data, int64_t index, DType dtype) {
  const auto* bytes = static_cast<const std::byte*>(data);
  if (dtype == DType::kF32) return bits_at<float>(bytes, index);
  const auto bits = bits_at<uint16_t>(bytes, index);
  if (dtype == DType::kBF16) return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  const int exponent = (bits & kF16Exponent) >> 10, mantissa = bits & 0x3ff;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                              : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  if (exponent == 31) value = mantissa == 0 ? INFINITY : NAN;
  return (bits & 0x8000) != 0 ? -value : value;
}

double largest_of(DType dtype) {
  if (dtype == DType::kF16) return 65504;
  return static_cast<double>(
      std::bit_cast<float>(dtype == DType::kBF16 ? uint32_t{0x7f7f0000} : uint32_t{0x7f7fffff}));
}

std::string number_text(double value) {
  return std::isnan(value) ? "nan" : fmt::format("{:.8g}", value);
}

std::string place_text(std::span<const int64_t> shape, int64_t index) {
  std::string text = "]";
  for (size_t axis = shape.size(); axis-- > 0;) {
    text = fmt::format("{}{}{}", axis == 0 ? "" : ", ", index % shape[axis], text);
    index /= shape[axis];
  }
  return "[" + text;
}

}  // namespace tenon
