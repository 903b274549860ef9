// SPDX-License-Identifier: Apache-2.0
// For instruction sets that multiply int8 as pairs of 16-bit numbers (vpmaddwd: AVX2, AVX-512 without
// VNNI) and no bf16.
#pragma once

#include "kernels/cpu/vec.h"

namespace tenon::cpu::TENON_ISA {

constexpr bool kHasBf16Dots = false, kHasByteDots = true;

// Never packed: the name alone is needed.
using Bf16Unit = FloatUnit;

// Two steps of K, the earlier one in the lower half; both operands run along K. Sums of up to 2^16
// pairs of products are exact.
struct ByteUnit {
  static constexpr int64_t kSteps = 2;
  static constexpr bool kBytes = true, kWholeNumbers = true;
  using Rows = ByteUnit;
  using Columns = ByteUnit;

  static Vec along(const int8_t* x, int64_t steps, float) { return load_words(x, steps); }
  static Vec dot(Vec x, Vec y, Vec sum) { return add_word_products(sum, x, y); }
  // Sums begin with 0.
  static void correct(float* panel, int64_t, int64_t width) {
    for (int64_t i = 0; i < width; i += kLanes) Vec::zero().store(panel - width + i);
  }
  static Vec result(Vec sum) { return from_whole(sum); }
};

}  // namespace tenon::cpu::TENON_ISA
