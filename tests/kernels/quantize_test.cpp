// SPDX-License-Identifier: Apache-2.0
// Rows in int8 and gathered columns, against their definition in double.
#include <cmath>

#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

constexpr float kThreshold = 6.0f;

// Bytes that a kernel writes.
struct Bytes {
  explicit Bytes(int64_t count)
      : array(DType::kF32, std::vector<float>(static_cast<size_t>((count + 3) / 4), NAN)) {}
  template <class T>
  T* as() {
    return static_cast<T*>(array.data());
  }
  template <class T>
  T get(int64_t i) const {
    return reinterpret_cast<const T*>(array.host())[i];
  }
  GuardedArray array;
};

// Mostly within the threshold, some elements not; a row of zeros; one that fp16 has few numbers for.
std::vector<float> activations(int64_t rows, int64_t channels) {
  std::vector<float> x = random_values(rows * channels, 5, -3, 3);
  for (size_t i = 0; i < x.size(); ++i) {
    if (i % 97 == 41) x[i] *= 9;
    if (i % 131 == 7) x[i] = kThreshold;  // an outlier, just so
    if (i / static_cast<size_t>(channels) == 1) x[i] = 0;
    if (i / static_cast<size_t>(channels) == 2) x[i] *= 0x1p-20f;
  }
  return x;
}

}  // namespace

TEST_CASE("rows in int8 are their elements below the threshold, scaled and rounded", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : kFloats) {
      for (const int64_t channels : kCounts) {
        const int64_t rows = channels > 1000 ? 3 : 5;
        CAPTURE(target.name, name_of(dtype), channels);
        const GuardedArray x(dtype, activations(rows, channels));
        const auto got = run_on_threads([&] {
          Bytes codes(rows * channels), outliers(channels);
          GuardedArray scales(DType::kF32, rows);
          table->quantize_rows({.x = x.data(),
                                .codes = codes.as<int8_t>(),
                                .scales = floats(scales),
                                .outliers = outliers.as<uint8_t>(),
                                .rows = rows,
                                .channels = channels,
                                .threshold = kThreshold,
                                .dtype = dtype});
          return std::vector<GuardedArray>{codes.array, scales, outliers.array};
        });
        const auto* codes = reinterpret_cast<const int8_t*>(got[0].host());
        int64_t wrong = 0;
        std::vector<bool> beyond(static_cast<size_t>(channels), false);
        for (int64_t r = 0; r < rows; ++r) {
          double most = 0;
          for (int64_t c = 0; c < channels; ++c) {
            const double size = std::fabs(x.get(r * channels + c));
            if (size < kThreshold) most = std::max(most, round_to(DType::kF16, size));
            if (size >= kThreshold) beyond[static_cast<size_t>(c)] = true;
          }
          if (std::fabs(got[1].get(r) - most / 127) > u32() * most / 127) FAIL("scale " << r);
          for (int64_t c = 0; c < channels; ++c) {
            const double v = x.get(r * channels + c);
            const double exact =
                most == 0 || std::fabs(v) >= kThreshold ? 0 : round_to(DType::kF16, v) * 127 / most;
            const double code = codes[r * channels + c];
            // fp32 rounds 127 / most and the product: 127 of their last places is 2^-16.
            if (std::fabs(code - exact) > 0.5 + 0x1p-15) ++wrong;
          }
        }
        CHECK(wrong == 0);
        const unsigned char* flags = got[2].host();
        for (int64_t c = 0; c < channels; ++c)
          if (flags[c] != beyond[static_cast<size_t>(c)]) FAIL("column " << c);
      }
    }
  }
}

TEST_CASE("codes are rounded to even, and what is no number is an outlier", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    // 127 / 64 is the largest, so that products with 127 / largest are exact.
    const GuardedArray even(DType::kF32, std::vector<float>{1.984375f, 0.5f / 64, 1.5f / 64,
                                                            -2.5f / 64, NAN, INFINITY, -INFINITY});
    Bytes codes(7), outliers(7);
    GuardedArray scales(DType::kF32, 1);
    table->quantize_rows({.x = even.data(),
                          .codes = codes.as<int8_t>(),
                          .scales = floats(scales),
                          .outliers = outliers.as<uint8_t>(),
                          .rows = 1,
                          .channels = 7,
                          .threshold = kThreshold});
    CHECK(scales.get(0) == 1.0 / 64);
    const int8_t want[] = {127, 0, 2, -2, 0, 0, 0};
    for (int64_t c = 0; c < 7; ++c) {
      CHECK(int{codes.get<int8_t>(c)} == int{want[c]});
      CHECK(int{outliers.get<uint8_t>(c)} == int{c >= 4});
    }
  }
}

TEST_CASE("columns are gathered by their places", "[kernels]") {
  constexpr int64_t kRows = 37, kChannels = 53, kColumns = 6;
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (const DType dtype : kFloats) {
      CAPTURE(target.name, name_of(dtype));
      std::vector<float> values = activations(kRows, kChannels);
      values[11 * kChannels + 52] = NAN;
      const GuardedArray x(dtype, values);
      const PlacedArray<int32_t> index(std::vector<int32_t>{0, 52, -1, 7, 41, -1});
      const auto got = run_on_threads([&] {
        GuardedArray y(DType::kF32, kRows * kColumns);
        table->gather_columns({.x = x.data(),
                               .index = index.data(),
                               .y = floats(y),
                               .rows = kRows,
                               .channels = kChannels,
                               .columns = kColumns,
                               .least = 2,
                               .dtype = dtype});
        return std::vector<GuardedArray>{y};
      });
      for (int64_t i = 0; i < kRows * kColumns; ++i) {
        const int64_t places[] = {0, 52, -1, 7, 41, -1}, at = places[i % kColumns];
        const double v = at < 0 ? 0 : x.get(i / kColumns * kChannels + at);
        const double want = std::fabs(v) < 2 ? 0 : v, y = got[0].get(i);
        if (!(y == want || (std::isnan(y) && std::isnan(want)))) FAIL("element " << i);
      }
    }
    const PlacedArray<int8_t> codes(std::vector<int8_t>{-128, 127, 3, 0, 5, -7});
    const PlacedArray<float> scales(std::vector<float>{0.5f, 2.0f});
    const PlacedArray<int32_t> index(std::vector<int32_t>{2, 0});
    GuardedArray y(DType::kF32, 4);
    table->gather_columns({.x = codes.data(),
                           .scales = scales.data(),
                           .index = index.data(),
                           .y = floats(y),
                           .rows = 2,
                           .channels = 3,
                           .columns = 2,
                           .dtype = DType::kI8});
    CHECK(y.values() == std::vector<double>{1.5, -64, -14, 0});
  }
}

}  // namespace tenon::test
