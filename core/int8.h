// SPDX-License-Identifier: Apache-2.0
// Matrices in int8: a scale for each row, that of its largest magnitude, as bitsandbytes 0.50 has them
// for LLM.int8() (Dettmers et al. 2022, arXiv:2208.07339), bit by bit. What is quantized is rounded to
// fp16 first, as there.
#pragma once

#include <string>

#include "core/element_reader.h"
#include "core/tensor.h"

namespace tenon {

// Elements of an activation that are so large, or larger, are kept out of int8.
inline constexpr float kOutlier = 6.0f;

struct Int8Matrix {
  Tensor codes;    // (rows, columns), kI8
  Tensor largest;  // (rows), fp32: the largest magnitude, for which 127 stands
  Tensor scales;   // (rows), fp32: an element is its code times this

  int64_t bytes() const { return codes.bytes() + largest.bytes() + scales.bytes(); }
  // Rows [begin, end) as fp32.
  Tensor rows(int64_t begin, int64_t end) const;
};

// One whose codes and largest magnitudes are to be filled.
Int8Matrix unfilled_int8(const Shape& shape);

// What an element of code 1 is in rows of these largest magnitudes.
Tensor int8_scales(const Tensor& largest);

// Throws Error(kNumeric) naming `where` and the first element that is not finite in fp16.
Int8Matrix quantize_int8(const Shape& shape, const ElementReader& read, const std::string& where);

}  // namespace tenon
