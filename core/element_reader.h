// SPDX-License-Identifier: Apache-2.0
// How matrices that are made a piece at a time get what they are made of.
#pragma once

#include <cstdint>
#include <functional>

namespace tenon {

// Writes elements [begin, begin + count), counted row by row, as fp32. Called from several threads.
using ElementReader = std::function<void(int64_t begin, int64_t count, float* out)>;

}  // namespace tenon
