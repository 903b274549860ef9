// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <utility>

#include "core/error.h"
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

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  if (ascii) return std::string(text);  // every form leaves ASCII as it is

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
  return out;
}

std::string lower_case(std::string_view text) {
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

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  if (pattern.empty()) return std::string(text);
  for (;;) {
    const size_t found = text.find(pattern);
    out += text.substr(0, found);
    if (found == text.npos) return out;
    out += content;
    text.remove_prefix(found + pattern.size());
  }
}

std::string replace_all(std::string_view text, const RegexSplitter& pattern,
                        std::string_view content) {
  std::string out;
  if (text.empty()) return out;
  for (const RegexSplitter::Part& part : pattern.find_parts(text)) {
    out += part.match ? content : text.substr(part.begin, part.end - part.begin);
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

std::string Normalizer::operator()(std::string_view text, bool prepend) const {
  std::string result(text);
  for (size_t i = 0; i < steps_.size(); ++i) {
    const NormalizerStep& step = steps_[i];
    switch (step.kind) {
      case NormalizerStep::kForm: result = normalize(result, step.form); break;
      case NormalizerStep::kLowercase: result = lower_case(result); break;
      case NormalizerStep::kStrip:
        if (step.right) result.erase(spaces_begin(result, result.size()));
        if (step.left) result.erase(0, spaces_end(result, 0));
        break;
      case NormalizerStep::kPrepend:
        if (prepend && !result.empty()) result.insert(0, step.content);
        break;
      case NormalizerStep::kReplace:
        result = replace_all(result, step.pattern, step.content);
        break;
      case NormalizerStep::kReplaceRegex:
        result = replace_all(result, *patterns_[i], step.content);
        break;
    }
  }
  return result;
}

}  // namespace tenon
