// SPDX-License-Identifier: Apache-2.0
// Numbers that are none: where they are among the elements of a tensor, and how a message says so.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/dtype.h"

namespace tenon {

// The index of the first element that is inf or NaN, or -1. Reads at the speed of memory, from any
// address. Integers are finite.
int64_t first_not_finite(const void* data, int64_t count, DType dtype);

// An element of a float's dtype, widened.
float element_of(const void* data, int64_t index, DType dtype);

// The largest number that a float's dtype holds.
double largest_of(DType dtype);

// "nan", "inf" or "-inf" (a NaN has no sign to people); other numbers by their digits.
std::string number_text(double value);

// The place of an element in row-major order: "[3, 17]".
std::string place_text(std::span<const int64_t> shape, int64_t index);

}  // namespace tenon
