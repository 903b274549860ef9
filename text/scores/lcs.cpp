// SPDX-License-Identifier: Apache-2.0
#include "text/scores/lcs.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace tenon {
namespace {

// A row of the table t(i, j), as the bits in which t(i, j + 1) - t(i, j) is 0. Row 0 is all ones.
using Row = std::vector<uint64_t>;

bool rises(const Row& row, int64_t column) { return (row[column / 64] >> column % 64 & 1) == 0; }

// t(i, end): the rises in the first `end` columns.
int64_t rises_before(const Row& row, int64_t end) {
  int64_t count = 0;
  for (int64_t word = 0; word < end / 64; ++word) count += std::popcount(~row[word]);
  const uint64_t mask = (uint64_t{1} << end % 64) - 1;
  return mask == 0 ? count : count + std::popcount(~row[end / 64] & mask);
}

// Takes a row to the next one, for the words of the columns.
class Columns {
 public:
  explicit Columns(std::span<const int32_t> words) : size_(static_cast<int64_t>(words.size())) {
    const int32_t largest = words.empty() ? -1 : *std::max_element(words.begin(), words.end());
    std::vector<int64_t> next(static_cast<size_t>(largest) + 2, 0);
    for (const int32_t word : words) ++next[word + 1];
    for (size_t i = 1; i < next.size(); ++i) next[i] += next[i - 1];
    std::vector<int64_t> columns(words.size());  // by word
    for (int64_t column = 0; column < size_; ++column) columns[next[words[column]]++] = column;

    begin_.push_back(0);
    size_t at = 0;
    for (int32_t word = 0; word <= largest; ++word) {
      for (; at < static_cast<size_t>(next[word]); ++at) {
        const auto block = static_cast<size_t>(columns[at] / 64);
        const bool fresh = matches_.size() == begin_.back() || matches_.back().block != block;
        if (fresh) matches_.push_back({block, 0});
        matches_.back().bits |= uint64_t{1} << columns[at] % 64;
      }
      begin_.push_back(matches_.size());
    }
  }

  Row first() const { return Row(static_cast<size_t>(size_) / 64 + 1, ~uint64_t{0}); }

  // row = (row + (row & matches)) | (row & ~matches), as one long number; where it neither matches
  // nor carries, a word of it stays as it is.
  void advance(Row& row, int32_t word) const {
    if (static_cast<size_t>(word) + 1 >= begin_.size()) return;
    uint64_t carry = 0;
    size_t at = 0;
    const auto ripple = [&](size_t end) {
      for (; carry != 0 && at < end; ++at) {
        const uint64_t sum = row[at] + 1;
        carry = sum == 0;
        row[at] |= sum;
      }
    };
    for (size_t i = begin_[word]; i < begin_[word + 1]; ++i) {
      const auto [block, bits] = matches_[i];
      ripple(block);
      const uint64_t old = row[block], add = old & bits, sum = old + add, all = sum + carry;
      carry = (sum < add || all < carry) ? 1 : 0;
      row[block] = all | (old & ~bits);
      at = block + 1;
    }
    ripple(row.size());
  }

 private:
  struct Match {
    size_t block;
    uint64_t bits;
  };
  int64_t size_;
  std::vector<size_t> begin_;
  std::vector<Match> matches_;  // of word w: from begin_[w] to begin_[w + 1]
};

// The table's rows from the last to the first: every step-th is kept, those between are made again.
class RowsBackwards {
 public:
  RowsBackwards(std::span<const int32_t> words, const Columns& columns)
      : words_(words),
        columns_(columns),
        step_(1 + static_cast<int64_t>(std::sqrt(static_cast<double>(words.size())))) {
    Row row = columns.first();
    for (size_t i = 0; i < words.size(); ++i) {
      if (static_cast<int64_t>(i) % step_ == 0) kept_.push_back(row);
      columns.advance(row, words[i]);
    }
    block_.push_back(std::move(row));
    first_ = static_cast<int64_t>(words.size());
  }

  // Row i and the one above it. Requires: 1 <= i, not above the last i that was asked for.
  std::pair<const Row&, const Row&> at(int64_t i) {
    if (i - 1 < first_) {
      first_ = (i - 1) / step_ * step_;
      block_.assign(1, kept_[first_ / step_]);
      for (int64_t row = first_; row < i; ++row) {
        block_.push_back(block_.back());
        columns_.advance(block_.back(), words_[row]);
      }
    }
    return {block_[i - first_], block_[i - 1 - first_]};
  }

 private:
  std::span<const int32_t> words_;
  const Columns& columns_;
  int64_t step_, first_ = 0;  // block_ begins with row first_
  std::vector<Row> kept_, block_;
};

}  // namespace

int64_t lcs_length(std::span<const int32_t> rows, std::span<const int32_t> columns) {
  const Columns table(columns);
  Row row = table.first();
  for (const int32_t word : rows) table.advance(row, word);
  return rises_before(row, static_cast<int64_t>(columns.size()));
}

std::vector<int64_t> lcs_positions(std::span<const int32_t> rows,
                                   std::span<const int32_t> columns) {
  const Columns table(columns);
  RowsBackwards backwards(rows, table);
  std::vector<int64_t> positions;
  auto j = static_cast<int64_t>(columns.size());
  for (auto i = static_cast<int64_t>(rows.size()); i > 0 && j > 0; --i) {
    const auto [row, above] = backwards.at(i);
    int64_t gain = rises_before(row, j) - rises_before(above, j);  // t(i, j) - t(i - 1, j)
    // To the left as long as the word differs and the left cell is greater than the upper one.
    while (j > 0 && rows[i - 1] != columns[j - 1] && !rises(row, j - 1) && gain > 0) {
      gain += rises(above, j - 1) ? 1 : 0;
      --j;
    }
    if (j == 0 || rows[i - 1] != columns[j - 1]) continue;  // up
    positions.push_back(i - 1);
    --j;
  }
  std::reverse(positions.begin(), positions.end());
  return positions;
}

}  // namespace tenon
