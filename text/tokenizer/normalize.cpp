// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <utility>

#include "core/error.h"
#include "text/tokenizer/replace.h"
#include "text/tokenizer/split.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace tenon {
namespace {

void append_normalized(std::string_view text, int options, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(mapped, std::free);
  TENON_CHECK(size >= 0, "[normalize] {}", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
}

// Whether a character is left as it is, and those on its two sides have nothing to do with each
// other. So are the characters that are newer than the Unicode of the tokenizers' forms, but perhaps
// not than utf8proc's; and U+11A7, a vowel that utf8proc 2.8 swallows behind a Korean syllable,
// taking it for the "no final consonant" of its arithmetic.
bool stands_alone(char32_t code) {
  if (code < std::begin(kUnknownToForms)->first) return false;
  const CodeRange* range =
      std::partition_point(std::begin(kUnknownToForms), std::end(kUnknownToForms),
                           [code](const CodeRange& r) { return r.last < code; });
  return code == 0x11A7 || (range != std::end(kUnknownToForms) && range->first <= code);
}

// Lower case that utf8proc 2.8 does not know, being of Unicode 15: runs of capitals, and by how much
// their small letters lie behind them.
struct CaseRun {
  char32_t first, last;
  int32_t offset;
};
constexpr CaseRun kNewerCase[] = {
    {0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B},
};

char32_t lower_case_of(char32_t code) {
  for (const CaseRun& run : kNewerCase) {
    if (code >= run.first && code <= run.last)
      return static_cast<char32_t>(static_cast<int32_t>(code) + run.offset);
  }
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

bool is_ascii(char c) { return (c & 0x80) == 0; }
// Whether a byte is not the first one of its character.
bool continues(char c) { return (c & 0xC0) == 0x80; }

// Moves marks in a text that became `normalized`. Before an ASCII character nothing composes or is
// reordered, so that each mark is found by what lies between the last such place and it: as far as
// that gives the same by itself.
void move_to_form(std::string_view text, NormalForm form, std::string_view normalized,
                  Marks marks) {
  size_t from = 0, to = 0;  // such a place, in the text and in the normalized one
  for (size_t& mark : marks) {
    size_t place = mark;
    while (place > from && (place == text.size() || !is_ascii(text[place]))) --place;
    to += normalize(text.substr(from, place - from), form).size();
    from = place;
    const std::string front = normalize(text.substr(place, mark - place), form);
    const std::string_view rest = normalized.substr(to);
    auto same = static_cast<size_t>(
        std::mismatch(front.begin(), front.end(), rest.begin(), rest.end()).first - front.begin());
    while (same > 0 && same < rest.size() && continues(rest[same])) --same;
    mark = to + same;
  }
}

void strip(const NormalizerStep& step, std::string& text, Marks marks) {
  if (step.right) text.erase(spaces_begin(text, text.size()));
  const size_t left = step.left ? spaces_end(text, 0) : 0;
  text.erase(0, left);
  for (size_t& mark : marks) mark = std::min(mark - std::min(mark, left), text.size());
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form, Marks marks) {
  if (std::all_of(text.begin(), text.end(), is_ascii))
    return std::string(text);  // every form leaves ASCII as it is

  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const int options = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                      (compatible ? UTF8PROC_COMPAT : 0);
  std::string out;
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = first_utf8(text.substr(i));
    if (stands_alone(c.code)) {
      append_normalized(text.substr(done, i - done), options, out);
      out += text.substr(i, c.length);
      done = i + c.length;
    }
    i += c.length;
  }
  append_normalized(text.substr(done), options, out);
  move_to_form(text, form, out, marks);
  return out;
}

std::string lower_case(std::string_view text, Marks marks) {
  move_marks(text, marks, [](std::string_view part) { return lower_case(part); });
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const Utf8Char c = first_utf8(rest);
    rest.remove_prefix(c.length);
    if (c.code == 0x130) {
      out += "i\u0307";  // the one capital whose small letter is two characters
    } else {
      append_utf8(lower_case_of(c.code), out);
    }
  }
  return out;
}

Normalizer::Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {
  for (const NormalizerStep& step : steps_) {
    patterns_.emplace_back();
    if (step.kind != NormalizerStep::kReplaceRegex) continue;
    patterns_.back() =
        std::make_unique<RegexSplitter>(step.place, step.pattern, SplitBehavior::kIsolated, false);
  }
}

Normalizer::~Normalizer() = default;

std::string Normalizer::operator()(std::string_view text, bool prepend, Marks marks) const {
  std::vector<size_t> inside;  // how far behind its character's first byte each mark lies
  for (size_t& mark : marks) {
    const size_t at = mark;
    while (mark > 0 && mark < text.size() && continues(text[mark])) --mark;
    inside.push_back(at - mark);
  }
  std::string result = run(text, prepend, marks);
  for (size_t i = 0; i < marks.size(); ++i) {
    for (; inside[i] > 0 && marks[i] + 1 < result.size() && continues(result[marks[i] + 1]);
         --inside[i])
      ++marks[i];
  }
  return result;
}

std::string Normalizer::run(std::string_view text, bool prepend, Marks marks) const {
  const size_t given = text.size();
  std::string result(text);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const NormalizerStep& step = steps_[i];
    Growth growth(step.place, given);
    switch (step.kind) {
      case NormalizerStep::kForm: result = normalize(result, step.form, marks); break;
      case NormalizerStep::kLowercase: result = lower_case(result, marks); break;
      case NormalizerStep::kStrip: strip(step, result, marks); break;
      case NormalizerStep::kPrepend:
        if (!prepend || result.empty()) break;
        growth.add(result.size() + step.content.size());
        result.insert(0, step.content);
        shift_marks(marks, step.content.size());
        break;
      case NormalizerStep::kReplace:
        result = replace_all(result, step.pattern, step.content, &growth, marks);
        break;
      case NormalizerStep::kReplaceRegex:
        result = replace_all(result, *patterns_[i], step.content, &growth, marks);
        break;
    }
  }
  return result;
}

std::vector<TextRange> normalized_ranges(const Normalizer& normalizer, std::string_view text,
                                         bool prepend, std::span<const TextRange> ranges) {
  std::vector<TextRange> moved;
  if (ranges.empty()) return moved;
  std::vector<size_t> ends;
  for (const TextRange& range : ranges) ends.insert(ends.end(), {range.begin, range.end});
  normalizer(text, prepend, ends);
  for (size_t i = 0; i < ends.size(); i += 2) {
    if (ends[i] < ends[i + 1]) moved.push_back({ends[i], ends[i + 1]});
  }
  return moved;
}

}  // namespace tenon
