// SPDX-License-Identifier: Apache-2.0
// Regular expressions in Python's syntax and with Python's meaning, for the names of modules: PEFT
// hands what a config or a flag says to Python's `re`. Names are short and of ASCII, so a pattern is
// matched by sets of positions: every part of it once at every position, whatever it repeats.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace tenon {

// A pattern that Python understands and Tenon does not.
class UnsupportedPattern : public Error {
  using Error::Error;
};

// A part of a pattern.
struct PatternNode {
  enum class Kind {
    kLetter,    // one of `letters`
    kSequence,  // the children one after another
    kChoice,    // one of the children
    kRepeat,    // the child `least` to `most` times
    kStart,
    kEnd,
    kEdge,   // of a word
    kAhead,  // the child matches from here on
    kBehind  // the child matches up to here
  } kind;
  std::bitset<128> letters = {};
  std::vector<int> children = {};     // by index
  int64_t least = 0, most = 0;        // of kRepeat
  bool negated = false;               // of kEdge, kAhead and kBehind
  int64_t shortest = 0, longest = 0;  // what it can match, kUnbounded at most

  static constexpr int64_t kUnbounded = int64_t{1} << 32;
};

// The parts of a pattern, the whole last. Throws as PathPattern does.
std::vector<PatternNode> parse_pattern(const std::string& pattern, const std::string& where);

// A letter of a name or number as \w has it.
bool is_word_letter(char c);

class PathPattern {
 public:
  // Throws Error(kInput) for what Python refuses, and UnsupportedPattern for what depends on how
  // Python's search goes (backreferences, conditions, atomic groups, possessive repeats), for
  // re.VERBOSE, and beyond ASCII or 2048 bytes. `where` begins the message.
  PathPattern(const std::string& pattern, const std::string& where)
      : nodes_(parse_pattern(pattern, where)) {}

  // re.fullmatch. Its time is bounded by the lengths of pattern and path.
  bool matches(std::string_view path) const;

 private:
  std::vector<PatternNode> nodes_;
};

}  // namespace tenon
