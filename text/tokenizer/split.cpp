// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace tenon {

const char kGpt2Pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char kLlama3Pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char kQwen2Pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

namespace {

// Walks over the classes of a text's characters.
struct Scan {
  const uint8_t* table = unicode_class_table();
  const char* data;
  size_t size;
  explicit Scan(std::string_view text) : data(text.data()), size(text.size()) {}

  // The class of the character at `at`, and its length.
  CharClass at(size_t at, size_t& length) const { return class_of(table, data + at, length); }
  // The end of the run of one class that goes on at `end`.
  size_t run(CharClass wanted, size_t end) const {
    size_t length = 0;
    while (end < size && at(end, length) == wanted) end += length;
    return end;
  }
  // The same for line ends.
  size_t newlines(size_t end) const {
    while (end < size && newline(end)) ++end;
    return end;
  }
  bool newline(size_t at) const { return data[at] == '\n' || data[at] == '\r'; }
  // \s+(?!\S)|\s+ where the text begins with white space: before a word, the run leaves its last
  // space to it.
  size_t spaces() const {
    size_t last = 0, end = 0, length = 0;
    while (end < size && at(end, length) == CharClass::kSpace) {
      last = end;
      end += length;
    }
    return end < size && last > 0 ? last : end;
  }
};

// The length of 's 't 're 've 'm 'll 'd at the front of `text`, which begins with an apostrophe; or
// 0. In any case: also in capitals, and with U+017F, which folds to an s.
size_t contraction(std::string_view text, bool any_case) {
  const auto letter = [&](size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (any_case && text.substr(1).starts_with("\u017F")) return 3;
  const bool long_form =
      ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
  return long_form ? 3 : 0;
}

template <int kDigits>  // the longest \p{N} word
size_t llama3_like_word(std::string_view text) {
  const Scan scan(text);
  if (text[0] == '\'') {
    if (const size_t length = contraction(text, true)) return length;
  }
  size_t first_length = 0, length = 0;
  const CharClass first = scan.at(0, first_length);
  if (first == CharClass::kLetter) return scan.run(first, first_length);
  if (first == CharClass::kNumber) {
    size_t end = first_length;
    for (int digits = 1; digits < kDigits && end < text.size(); ++digits) {
      if (scan.at(end, length) != CharClass::kNumber) break;
      end += length;
    }
    return end;
  }
  const bool more = first_length < text.size();
  const CharClass second = more ? scan.at(first_length, length) : CharClass::kSpace;
  if (more && second == CharClass::kLetter && !scan.newline(0)) {
    return scan.run(second, first_length + length);
  }
  if (first == CharClass::kOther) return scan.newlines(scan.run(first, first_length));
  if (more && second == CharClass::kOther && text[0] == ' ') {
    return scan.newlines(scan.run(second, first_length + length));
  }
  // \s*[\r\n]+ ends behind the last line end of the white space.
  const size_t end = scan.run(CharClass::kSpace, 0);
  const size_t newline = text.substr(0, end).find_last_of("\r\n");
  return newline != text.npos ? newline + 1 : scan.spaces();
}

}  // namespace

size_t gpt2_word(std::string_view text) {
  const Scan scan(text);
  if (text[0] == '\'') {
    if (const size_t length = contraction(text, false)) return length;
  }
  size_t length = 0;
  const size_t space = text[0] == ' ' && text.size() > 1 ? 1 : 0;  // one space may lead a word
  const CharClass first = scan.at(space, length);
  return first == CharClass::kSpace ? scan.spaces() : scan.run(first, space + length);
}

size_t llama3_word(std::string_view text) { return llama3_like_word<3>(text); }
size_t qwen2_word(std::string_view text) { return llama3_like_word<1>(text); }

// -------------------------------------------------------------------------------------- PCRE2

namespace {

// Enough for any sensible pattern (a run of spaces of 1 MB needs about one unit a byte), and an end
// to `(a+)+$`.
constexpr uint32_t kMatchLimit = 20'000'000;
constexpr size_t kJitStackBytes = 8 << 20;  // the most; PCRE2's own default is 32 KiB

}  // namespace

struct RegexSplitter::Compiled {
  pcre2_code* code = nullptr;
  ~Compiled() { pcre2_code_free(code); }
};

struct RegexSplitter::Match {
  pcre2_match_data* data;
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  explicit Match(const Compiled& compiled)
      : data(pcre2_match_data_create_from_pattern(compiled.code, nullptr)) {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~Match() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  Match(const Match&) = delete;
  Match& operator=(const Match&) = delete;
};

namespace {

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

// The members of an escape as they stand inside a bracket, or "" when PCRE2 means the same by it.
std::string members_of(std::string_view escape) {
  if (escape == "\\s" || escape == "\\S") return kSpaces;
  if (escape == "\\h" || escape == "\\H") return "0-9a-fA-F";  // Oniguruma: a hexadecimal digit
  if (escape == "\\p{L}" || escape == "\\P{L}")
    return std::string("\\p{L}") + kLettersAfterUnicode14;
  if (escape == "\\p{N}" || escape == "\\P{N}")
    return std::string("\\p{N}") + kNumbersAfterUnicode14;
  return "";
}

// The escape at the front: two characters, or \p{...}.
std::string_view escape_at(std::string_view pattern) {
  const bool property =
      pattern.size() > 2 && (pattern[1] == 'p' || pattern[1] == 'P') && pattern[2] == '{';
  const size_t brace = property ? pattern.find('}') : std::string_view::npos;
  return pattern.substr(0, brace == std::string_view::npos ? 2 : brace + 1);
}

// Whether a bracket holds what only Oniguruma has: a bracket inside it, or an intersection.
bool has_set_operation(std::string_view pattern) {
  bool in_bracket = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view two = pattern.substr(i, 2);
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == ']') {
      in_bracket = false;
    } else if (in_bracket && ((pattern[i] == '[' && two != "[:") || two == "&&")) {
      return true;
    } else if (pattern[i] == '[') {
      in_bracket = true;
    }
  }
  return false;
}

}  // namespace

std::string RegexSplitter::in_pcre2(std::string_view pattern) {
  std::string out;
  bool in_bracket = false;
  while (!pattern.empty()) {
    std::string_view item = pattern.substr(0, 1);
    std::string members;
    if (item == "\\") {
      item = escape_at(pattern);
      members = members_of(item);
    } else if (item == "[") {
      in_bracket = true;
    } else if (item == "]") {
      in_bracket = false;
    }
    const bool negated = item.size() > 1 && item[1] >= 'A' && item[1] <= 'Z';
    if (members.empty() || (in_bracket && negated)) {
      out += item;
    } else if (in_bracket) {
      out += members;
    } else {
      out += (negated ? "[^" : "[") + members + "]";
    }
    pattern.remove_prefix(item.size());
  }
  return out;
}

RegexSplitter::RegexSplitter(const std::string& place, const std::string& pattern,
                             SplitBehavior behavior, bool invert)
    : compiled_(std::make_unique<Compiled>()), place_(place), behavior_(behavior), invert_(invert) {
  if (has_set_operation(pattern)) {
    fail_input("{}: sets within sets are not supported in a regular expression, got \"{}\"", place_,
               printable(pattern));
  }
  const std::string translated = in_pcre2(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Multiline: ^ and $ are the ends of lines to Oniguruma.
  compiled_->code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (compiled_->code == nullptr) {
    fail_input("{}: expected a regular expression, got \"{}\" ({})", place_, printable(pattern),
               pcre2_message(error));
  }
  pcre2_jit_compile(compiled_->code,
                    PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter does the same
}

RegexSplitter::~RegexSplitter() = default;

std::vector<RegexSplitter::Part> RegexSplitter::find_parts(std::string_view text) const {
  const auto match = matches_.borrow([&] { return std::make_unique<Match>(*compiled_); });
  std::vector<Part> parts;
  size_t position = 0, done = 0;
  bool after_match = false;  // whether a match ends at `done`
  while (position <= text.size()) {
    const int found =
        pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    position, PCRE2_NO_UTF_CHECK, match->data, match->context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      fail_input(
          "{}: expected a pattern that matches in reasonable time, got \"{}\" on a text of {} "
          "bytes",
          place_, pcre2_message(found), text.size());
    }
    const PCRE2_SIZE* const offsets = pcre2_get_ovector_pointer(match->data);
    const size_t begin = offsets[0], end = offsets[1];
    if (end > begin) {
      if (begin > done) parts.push_back({done, begin, invert_});
      parts.push_back({begin, end, !invert_});
      position = done = end;
      after_match = true;
    } else {  // an empty match cuts, and the search goes on behind the next character
      if (begin > done) parts.push_back({done, begin, invert_});
      if (begin > done || !after_match) parts.push_back({begin, begin, !invert_});
      done = begin;
      after_match = true;
      if (begin >= text.size()) break;
      position = begin + first_utf8(text.substr(begin)).length;
    }
  }
  if (done < text.size()) parts.push_back({done, text.size(), invert_});
  return parts;
}

void RegexSplitter::split(std::string_view text, std::vector<std::string_view>& out) const {
  if (text.empty()) return;
  const std::vector<Part> parts = find_parts(text);
  const auto joins = [&](size_t i) {  // whether part i goes on where part i - 1 ends
    if (i == 0) return false;
    switch (behavior_) {
      case SplitBehavior::kContiguous: return parts[i].match == parts[i - 1].match;
      case SplitBehavior::kMergedWithPrevious: return parts[i].match && !parts[i - 1].match;
      case SplitBehavior::kMergedWithNext: return parts[i - 1].match && !parts[i].match;
      default: return false;
    }
  };
  for (size_t i = 0; i < parts.size();) {
    size_t next = i + 1;
    while (next < parts.size() && joins(next)) ++next;
    const bool removed = behavior_ == SplitBehavior::kRemoved && parts[i].match;
    const size_t size = parts[next - 1].end - parts[i].begin;
    if (!removed && size > 0) out.push_back(text.substr(parts[i].begin, size));
    i = next;
  }
}

std::string escape_pattern(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c & 0x80) != 0 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                       (c >= 'A' && c <= 'Z');
    if (!plain) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace tenon
