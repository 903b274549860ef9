// SPDX-License-Identifier: Apache-2.0
// The longest common subsequence of two texts, whose words are numbers: bit-parallel (Hyyro, "Bit-
// parallel LCS-length computation revisited", 2004), 64 columns of the usual table at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tenon {

// Memory grows with columns.size(). Requires: numbers are from 0 on, without large gaps.
int64_t lcs_length(std::span<const int32_t> rows, std::span<const int32_t> columns);

// Where in `rows` one of the longest stands, ascending. Of several it is the one that is read back
// from the table's last corner, going left where the left cell is greater than the upper, else up:
// rouge-score's choice. Memory grows with sqrt(rows.size()) * columns.size() / 4 bytes.
std::vector<int64_t> lcs_positions(std::span<const int32_t> rows, std::span<const int32_t> columns);

}  // namespace tenon
