// SPDX-License-Identifier: Apache-2.0
// Texts in which what a pattern finds gives way to something else, as steps of a tokenizer have it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/tokenizer/marks.h"

namespace tenon {

class RegexSplitter;

// Keeps steps that could double a text again and again from doing so: what one step makes of a text
// is to be in proportion to what the first one was given.
class Growth {
 public:
  // `place` names the step in messages; both outlive this. `given` may grow.
  Growth(const std::string& place, const size_t& given) : place_(place), given_(given) {}
  // Throws Error(kInput) when it is too much with these bytes.
  void add(size_t bytes);

 private:
  const std::string& place_;
  const size_t& given_;
  size_t made_ = 0;
};

// `text` with `content` in the place of each `pattern`. An empty pattern is found nowhere. Moves
// `marks`, those within a match to the start of the content. `growth`: null where none is possible.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content,
                        Growth* growth = nullptr, Marks marks = {});
// The same with the matches of a regular expression.
std::string replace_all(std::string_view text, const RegexSplitter& pattern,
                        std::string_view content, Growth* growth, Marks marks = {});

}  // namespace tenon
