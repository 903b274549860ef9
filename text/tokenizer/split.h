// SPDX-License-Identifier: Apache-2.0
// Cutting a text into the words that byte pair encoding works on: the patterns of most models by
// hand, any other by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/scratch_pool.h"

namespace tenon {

// The length of the first word of `text` by a pattern below. No word depends on what is before it,
// so a text is cut by calling this until it is used up.
// Requires: text is valid UTF-8 and not empty.
using WordScanner = size_t(std::string_view text);

//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
WordScanner gpt2_word;
extern const char kGpt2Pattern[];
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
//   |\s*[\r\n]+|\s+(?!\S)|\s+
WordScanner llama3_word;
extern const char kLlama3Pattern[];
// The same with \p{N} in the place of \p{N}{1,3}.
WordScanner qwen2_word;
extern const char kQwen2Pattern[];

// What becomes of the parts that match and of those between.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// A `Split` of tokenizer.json. Its patterns are written for Oniguruma with recent Unicode tables;
// \s, \S, \h, \p{L} and \p{N} are written out so that PCRE2 means the same by them.
class RegexSplitter {
 public:
  // `place` (file and field) begins the messages of errors. Throws Error(kInput) when PCRE2 does
  // not take the pattern.
  RegexSplitter(const std::string& place, const std::string& pattern, SplitBehavior behavior,
                bool invert);
  ~RegexSplitter();
  RegexSplitter(const RegexSplitter&) = delete;
  RegexSplitter& operator=(const RegexSplitter&) = delete;

  // Appends the parts of `text`, none of them empty. Throws Error(kInput) when the pattern takes
  // too long on it. Requires: text is valid UTF-8. Safe to share between threads.
  void split(std::string_view text, std::vector<std::string_view>& parts) const;

  // The matches (or, inverted, what is between them) and the rest, in order. A match may be empty,
  // but not where another ends. Requires: text is not empty.
  struct Part {
    size_t begin, end;
    bool match;
  };
  std::vector<Part> find_parts(std::string_view text) const;

  // The pattern with Oniguruma's meaning in PCRE2's words.
  static std::string in_pcre2(std::string_view pattern);

 private:
  struct Compiled;
  struct Match;  // what PCRE2 writes to while it matches
  std::unique_ptr<Compiled> compiled_;
  mutable ScratchPool<Match> matches_;
  std::string place_;
  SplitBehavior behavior_;
  bool invert_;
};

// `text` as a pattern that matches it and nothing else.
std::string escape_pattern(std::string_view text);

}  // namespace tenon
