// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pre_tokenize.h"

#include "text/tokenizer/replace.h"
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

// Appends a stretch of `whole`, whose `marks` that are left begin with those in front of its end.
void PreTokenizer::add_part(std::string_view text, const Part& whole, Marks& marks, Parts& out) {
  const auto begin = static_cast<size_t>(text.data() - whole.text.data());
  out.push_back({text, begin == 0 ? whole.place : Place::kInside,
                 take_marks(marks, begin, begin + text.size())});
}

void PreTokenizer::split(const RegexSplitter& splitter, const Part& part, Parts& out) {
  std::vector<std::string_view> pieces;
  splitter.split(part.text, pieces);
  Marks marks = part.marks;
  for (const std::string_view piece : pieces) add_part(piece, part, marks, out);
}

// \w+|[^\w\s]+: runs of word characters and runs of others, without the white space between.
void PreTokenizer::cut_words(const Part& part, Parts& out) {
  enum class Kind { kSpace, kWord, kOther };
  const std::string_view text = part.text;
  Marks marks = part.marks;
  const auto kind_at = [&](size_t i) {
    return space_at(text, i) ? Kind::kSpace : word_at(text, i) ? Kind::kWord : Kind::kOther;
  };
  for (size_t begin = 0; begin < text.size();) {
    const Kind kind = kind_at(begin);
    size_t end = begin;
    do {
      end += first_utf8(text.substr(end)).length;
    } while (end < text.size() && kind_at(end) == kind);
    if (kind != Kind::kSpace) add_part(text.substr(begin, end - begin), part, marks, out);
    begin = end;
  }
}

void PreTokenizer::cut_metaspace(const Step& step, const Part& part, Parts& out,
                                 std::deque<std::string>& texts) {
  const PreTokenizerStep& spec = step.spec;
  std::string& text =
      texts.emplace_back(replace_all(part.text, " ", spec.replacement, nullptr, part.marks));
  const bool prepend =
      (spec.prepend == PreTokenizerStep::kAlways && part.place != Place::kContinued) ||
      (spec.prepend == PreTokenizerStep::kFirst && part.place == Place::kStart);
  if (prepend && !text.starts_with(spec.replacement)) {
    text.insert(0, spec.replacement);
    shift_marks(part.marks, spec.replacement.size());
  }
  if (step.splitter) {
    split(*step.splitter, {text, part.place, part.marks}, out);
  } else {
    out.push_back({text, part.place, part.marks});
  }
}

void PreTokenizer::cut_byte_level(const Step& step, const Part& part, Parts& out,
                                  std::deque<std::string>& texts) const {
  Part whole = part;
  if (step.spec.add_prefix_space && !part.text.starts_with(' ') &&
      part.place != Place::kContinued) {
    whole.text = texts.emplace_back(" ").append(part.text);
    shift_marks(whole.marks, 1);
  }
  Marks marks = whole.marks;
  for (std::string_view rest = whole.text; !rest.empty();) {
    const size_t length = step.spec.gpt2_pattern ? gpt2_word(rest) : rest.size();
    const std::string_view word = rest.substr(0, length);
    add_part(word, whole, marks, out);
    out.back().text = texts.emplace_back(spelling_.spelled(word));
    move_marks(word, out.back().marks,
               [this](std::string_view front) { return spelling_.spelled(front); });
    rest.remove_prefix(length);
  }
}

PreTokenizer::Words PreTokenizer::cut(std::string_view text, Place place, Marks marks) const {
  Words result;
  Parts next;
  Parts& parts = result.words;
  if (!text.empty()) parts.push_back({text, place, marks});
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
  return result;
}

}  // namespace tenon
