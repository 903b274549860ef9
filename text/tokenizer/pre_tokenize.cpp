// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pre_tokenize.h"

#include "text/tokenizer/normalize.h"
#include "text/utf8.h"

namespace tenon {

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps) {
  for (const PreTokenizerStep& spec : steps) {
    Step step{spec, nullptr};
    if (spec.kind == PreTokenizerStep::kSplit) {
      step.splitter = std::make_unique<RegexSplitter>(spec.split.place, spec.split.pattern,
                                                      spec.split.behavior, spec.split.invert);
    } else if (spec.kind == PreTokenizerStep::kMetaspace && spec.cut) {
      step.splitter = std::make_unique<RegexSplitter>("Metaspace", escape_pattern(spec.replacement),
                                                      SplitBehavior::kMergedWithNext, false);
    }
    steps_.push_back(std::move(step));
  }
}

void PreTokenizer::split(const RegexSplitter& splitter, const Part& part, Parts& out) {
  std::vector<std::string_view> pieces;
  splitter.split(part.text, pieces);
  for (const std::string_view piece : pieces)
    out.push_back({piece, piece.data() == part.text.data() ? part.place : Place::kInside});
}

// \w+|[^\w\s]+: runs of word characters and runs of others, without the white space between.
void PreTokenizer::cut_words(const Part& part, Parts& out) {
  enum class Kind { kSpace, kWord, kOther };
  const std::string_view text = part.text;
  const auto kind_at = [&](size_t i) {
    return space_at(text, i) ? Kind::kSpace : word_at(text, i) ? Kind::kWord : Kind::kOther;
  };
  for (size_t begin = 0; begin < text.size();) {
    const Kind kind = kind_at(begin);
    size_t end = begin;
    do {
      end += first_utf8(text.substr(end)).length;
    } while (end < text.size() && kind_at(end) == kind);
    if (kind != Kind::kSpace)
      out.push_back({text.substr(begin, end - begin), begin == 0 ? part.place : Place::kInside});
    begin = end;
  }
}

void PreTokenizer::cut_metaspace(const Step& step, const Part& part, Parts& out,
                                 std::deque<std::string>& texts) {
  const PreTokenizerStep& spec = step.spec;
  std::string& text = texts.emplace_back(replace_all(part.text, " ", spec.replacement));
  const bool prepend =
      (spec.prepend == PreTokenizerStep::kAlways && part.place != Place::kContinued) ||
      (spec.prepend == PreTokenizerStep::kFirst && part.place == Place::kStart);
  if (prepend && !text.starts_with(spec.replacement)) text.insert(0, spec.replacement);
  if (step.splitter) {
    split(*step.splitter, {text, part.place}, out);
  } else {
    out.push_back({text, part.place});
  }
}

void PreTokenizer::cut_byte_level(const Step& step, const Part& part, Parts& out,
                                  std::deque<std::string>& texts) const {
  std::string_view rest = part.text;
  if (step.spec.add_prefix_space && !rest.starts_with(' ') && part.place != Place::kContinued)
    rest = texts.emplace_back(" ").append(rest);
  const char* const begin = rest.data();
  while (!rest.empty()) {
    const size_t length = step.spec.gpt2_pattern ? gpt2_word(rest) : rest.size();
    texts.push_back(spelling_.spelled(rest.substr(0, length)));
    out.push_back({texts.back(), rest.data() == begin ? part.place : Place::kInside});
    rest.remove_prefix(length);
  }
}

PreTokenizer::Words PreTokenizer::cut(std::string_view text, Place place) const {
  Words result;
  Parts parts, next;
  if (!text.empty()) parts.push_back({text, place});
  for (const Step& step : steps_) {
    next.clear();
    for (const Part& part : parts) {
      switch (step.spec.kind) {
        case PreTokenizerStep::kSplit: split(*step.splitter, part, next); break;
        case PreTokenizerStep::kWords: cut_words(part, next); break;
        case PreTokenizerStep::kMetaspace: cut_metaspace(step, part, next, result.texts); break;
        case PreTokenizerStep::kByteLevel: cut_byte_level(step, part, next, result.texts); break;
      }
    }
    parts.swap(next);
  }
  for (const Part& part : parts) result.words.push_back(part.text);
  return result;
}

}  // namespace tenon
