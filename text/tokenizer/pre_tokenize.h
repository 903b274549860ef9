// SPDX-License-Identifier: Apache-2.0
// Cutting a normalized text into the words that a model encodes one by one: the steps of a
// tokenizer.json's `pre_tokenizer`.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/byte_spelling.h"
#include "text/tokenizer/marks.h"
#include "text/tokenizer/split.h"

namespace tenon {

struct SplitSpec {
  std::string place;  // file and field, for messages
  std::string pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
};

struct PreTokenizerStep {
  enum Kind { kSplit, kByteLevel, kMetaspace, kWords };
  // Where the replacement of a Metaspace is put before a part that does not begin with it.
  enum Prepend { kAlways, kFirst, kNever };
  Kind kind = kSplit;
  SplitSpec split;                // kSplit
  bool add_prefix_space = false;  // kByteLevel: a part that begins with no space gets one
  bool gpt2_pattern = true;       // kByteLevel: cuts by GPT-2's pattern
  std::string replacement;        // kMetaspace: stands for a space
  Prepend prepend = kAlways;      // kMetaspace
  bool cut = true;                // kMetaspace: before each replacement
};

// Where a part stands: it begins what is encoded, or goes on where an earlier text ended (then
// nothing is put before it), or follows another part.
enum class Place { kStart, kContinued, kInside };

// The steps one after the other. Safe to share between threads.
class PreTokenizer {
 public:
  // Throws Error(kInput) for a pattern that cannot be used.
  explicit PreTokenizer(const std::vector<PreTokenizerStep>& steps);

  // A word and the marks in it, counted from its start.
  struct Part {
    std::string_view text;
    Place place;
    Marks marks;
  };
  using Parts = std::vector<Part>;
  // The words of a text. They look into the text or into `texts`, which keeps what was rewritten.
  // Marks in what is dropped are in no word.
  struct Words {
    Parts words;
    std::deque<std::string> texts;
  };
  // Throws Error(kInput) when a pattern takes too long. Requires: text is valid UTF-8.
  Words cut(std::string_view text, Place place, Marks marks) const;

 private:
  struct Step {
    PreTokenizerStep spec;
    std::unique_ptr<RegexSplitter> splitter;  // kSplit, and a kMetaspace that cuts
  };
  static void add_part(std::string_view text, const Part& whole, Marks& marks, Parts& out);
  static void split(const RegexSplitter& splitter, const Part& part, Parts& out);
  static void cut_words(const Part& part, Parts& out);
  static void cut_metaspace(const Step& step, const Part& part, Parts& out,
                            std::deque<std::string>& texts);
  void cut_byte_level(const Step& step, const Part& part, Parts& out,
                      std::deque<std::string>& texts) const;

  std::vector<Step> steps_;
  ByteSpelling spelling_;
};

}  // namespace tenon
