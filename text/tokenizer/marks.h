// SPDX-License-Identifier: Apache-2.0
// Byte positions in a text on their way to the tokens that hold the bytes: each step that rewrites
// or cuts the text moves them along, until a word's tokens are known.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tenon {

struct TextRange {
  size_t begin = 0, end = 0;  // bytes
};

// Ascending positions, each at most the size of the text.
using Marks = std::span<size_t>;

// Those in front of `end`, taken from the front of `marks` and counted from `begin`: what lies
// before it goes to its start.
inline Marks take_marks(Marks& marks, size_t begin, size_t end) {
  size_t count = 0;
  for (; count < marks.size() && marks[count] < end; ++count)
    marks[count] -= std::min(marks[count], begin);
  const Marks taken = marks.first(count);
  marks = marks.subspan(count);
  return taken;
}

// What of `ranges` (in order, apart, none empty) lies in [begin, end), counted from begin.
inline std::vector<TextRange> ranges_within(std::span<const TextRange> ranges, size_t begin,
                                            size_t end) {
  std::vector<TextRange> within;
  auto range = std::partition_point(ranges.begin(), ranges.end(),
                                    [begin](const TextRange& r) { return r.end <= begin; });
  for (; range != ranges.end() && range->begin < end; ++range) {
    within.push_back({std::max(range->begin, begin) - begin, std::min(range->end, end) - begin});
  }
  return within;
}

inline void set_marks(Marks marks, size_t value) { std::fill(marks.begin(), marks.end(), value); }

// Moves marks for what is put before a text: it belongs to its first byte.
inline void shift_marks(Marks marks, size_t bytes) {
  for (size_t& mark : marks) mark += mark > 0 ? bytes : 0;
}

// Moves each from a place in `text` to where `moved(front)` ends, front being the text before it:
// for what is rewritten character by character.
template <class Moved>
void move_marks(std::string_view text, Marks marks, Moved moved) {
  size_t from = 0, to = 0;
  for (size_t& mark : marks) {
    to += moved(text.substr(from, mark - from)).size();
    from = mark;
    mark = to;
  }
}

// Turns positions in a word into the indices in `tokens`, of which those from `first` on are the
// word's, of the tokens that hold them. covered(rest, token): how many bytes at the front of the
// rest of the word a token stands for.
template <class Covered>
void place_marks(std::string_view word, Marks marks, const std::vector<int32_t>& tokens,
                 size_t first, Covered covered) {
  size_t end = 0, done = 0;
  for (size_t i = first; i < tokens.size() && done < marks.size(); ++i) {
    end += std::min(covered(word.substr(end), tokens[i]), word.size() - end);
    for (; done < marks.size() && marks[done] < end; ++done) marks[done] = i;
  }
  set_marks(marks.subspan(done), tokens.size());
}

}  // namespace tenon
