// SPDX-License-Identifier: Apache-2.0
// What a tokenizer does to a text before it cuts it: Unicode's four normalization forms (by
// utf8proc, for the characters that Hugging Face's tokenizers know, which are those of Unicode 9), and
// the other steps of a tokenizer.json's `normalizer`.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/marks.h"

namespace tenon {

class RegexSplitter;

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// These move `marks` to where the characters at them have gone; what composes with others goes to the
// composed one. Requires: text is valid UTF-8, marks are at its characters.
std::string normalize(std::string_view text, NormalForm form, Marks marks = {});

// Each character's lower case by itself, as Rust's char::to_lowercase has it (Unicode 17).
std::string lower_case(std::string_view text, Marks marks = {});

struct NormalizerStep {
  enum Kind { kForm, kLowercase, kStrip, kPrepend, kReplace, kReplaceRegex };
  Kind kind = kForm;
  NormalForm form = NormalForm::kNfc;
  bool left = false, right = false;  // kStrip: the ends that lose their white space
  std::string place;                 // file and field, for messages
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
  // Without `prepend`, nothing is put before the text. Moves `marks` to where the bytes at them have
  // gone; those of what is replaced go to the start of what comes in its place. Throws Error(kInput)
  // when a pattern takes too long, and when the steps make of a text what is out of proportion to
  // it. Requires: text is valid UTF-8.
  std::string operator()(std::string_view text, bool prepend = true, Marks marks = {}) const;

 private:
  // The same for marks at the first bytes of characters.
  std::string run(std::string_view text, bool prepend, Marks marks) const;

  std::vector<NormalizerStep> steps_;
  std::vector<std::unique_ptr<RegexSplitter>> patterns_;  // by step; null but for kReplaceRegex
};

// Where the ranges of a text lie once it is normalized; those that become empty are left out.
std::vector<TextRange> normalized_ranges(const Normalizer& normalizer, std::string_view text,
                                         bool prepend, std::span<const TextRange> ranges);

}  // namespace tenon
