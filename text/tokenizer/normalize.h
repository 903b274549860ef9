// SPDX-License-Identifier: Apache-2.0
// What a tokenizer does to a text before it cuts it: Unicode's four normalization forms (by
// utf8proc, for the characters that Hugging Face's tokenizers know, which are those of Unicode 9), and
// the other steps of a tokenizer.json's `normalizer`.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

class RegexSplitter;

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Requires: text is valid UTF-8.
std::string normalize(std::string_view text, NormalForm form);

// Each character's lower case by itself, as Rust's char::to_lowercase has it (Unicode 17).
// Requires: text is valid UTF-8.
std::string lower_case(std::string_view text);

struct NormalizerStep {
  enum Kind { kForm, kLowercase, kStrip, kPrepend, kReplace, kReplaceRegex };
  Kind kind = kForm;
  NormalForm form = NormalForm::kNfc;
  bool left = false, right = false;  // kStrip: the ends that lose their white space
  std::string place;                 // kReplaceRegex: file and field, for messages
  std::string pattern;               // what is replaced
  std::string content;               // what comes in its place, or before the text (kPrepend)
};

// The steps one after the other. Safe to share between threads.
class Normalizer {
 public:
  // Throws Error(kInput) for a pattern that cannot be used.
  explicit Normalizer(std::vector<NormalizerStep> steps);
  ~Normalizer();
  Normalizer(const Normalizer&) = delete;
  Normalizer& operator=(const Normalizer&) = delete;

  bool empty() const { return steps_.empty(); }
  // Without `prepend`, nothing is put before the text. Throws Error(kInput) when a pattern takes too
  // long. Requires: text is valid UTF-8.
  std::string operator()(std::string_view text, bool prepend = true) const;

 private:
  std::vector<NormalizerStep> steps_;
  std::vector<std::unique_ptr<RegexSplitter>> patterns_;  // by step; null but for kReplaceRegex
};

// `text` with `content` in the place of each `pattern`. An empty pattern is found nowhere.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content);
// The same with the matches of a regular expression.
std::string replace_all(std::string_view text, const RegexSplitter& pattern,
                        std::string_view content);

}  // namespace tenon
