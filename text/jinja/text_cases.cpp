// SPDX-License-Identifier: Apache-2.0
// Upper and lower case, and classes of characters, as Python's str has them.
#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/jinja/case_mappings.h"
#include "text/jinja/text_functions.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

template <size_t N>
const char* mapped(const CaseMapping (&table)[N], char32_t code) {
  const auto* row = std::lower_bound(
      std::begin(table), std::end(table), code,
      [](const CaseMapping& mapping, char32_t wanted) { return mapping.code < wanted; });
  return row != std::end(table) && row->code == code ? row->text : nullptr;
}

template <size_t N>
bool within(const CodeRange (&ranges)[N], char32_t code) {
  return std::any_of(std::begin(ranges), std::end(ranges), [code](const CodeRange& range) {
    return range.first <= code && code <= range.last;
  });
}

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}
bool is_lower(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LL || within(kOtherLower, c); }
bool is_upper(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LU || within(kOtherUpper, c); }
bool is_title(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_cased(char32_t c) { return is_lower(c) || is_upper(c) || is_title(c); }

// Unicode's Case_Ignorable: what does not end a word for the final form of sigma.
bool is_case_ignorable(char32_t c) {
  constexpr char32_t kWithinWords[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,
                                       0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                       0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default:
      return std::find(std::begin(kWithinWords), std::end(kWithinWords), c) !=
             std::end(kWithinWords);
  }
}

std::u32string decoded(std::string_view text) {
  std::u32string codes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_utf8(text.substr(at));
    codes += c.code;
    at += c.length;
  }
  return codes;
}

bool is_final_sigma(const std::u32string& codes, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(codes[before - 1])) --before;
  if (before == 0 || !is_cased(codes[before - 1])) return false;
  size_t after = at + 1;
  while (after < codes.size() && is_case_ignorable(codes[after])) ++after;
  return after == codes.size() || !is_cased(codes[after]);
}

void append_lower(const std::u32string& codes, size_t at, std::string& out) {
  constexpr char32_t kSigma = 0x3A3, kSmallSigma = 0x3C3, kFinalSigma = 0x3C2;
  constexpr char32_t kDottedI = 0x130, kDotAbove = 0x307;
  const char32_t code = codes[at];
  if (code == kSigma) {
    append_utf8(is_final_sigma(codes, at) ? kFinalSigma : kSmallSigma, out);
  } else if (code == kDottedI) {
    append_utf8('i', out);
    append_utf8(kDotAbove, out);
  } else {
    append_utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
  }
}

void append_upper(char32_t code, std::string& out) {
  if (const char* text = mapped(kUpperMappings, code)) {
    out += text;
  } else {
    append_utf8(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))), out);
  }
}

void append_title(char32_t code, std::string& out) {
  const auto title = static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code)));
  if (const char* text = mapped(kTitleMappings, code)) {
    out += text;
  } else if (title != code || !mapped(kUpperMappings, code)) {
    append_utf8(title, out);
  } else {
    append_upper(code, out);
  }
}

bool has_class(char32_t c, TextClass what) {
  const utf8proc_category_t kind = category(c);
  const bool alpha = kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
  const bool decimal = kind == UTF8PROC_CATEGORY_ND;
  switch (what) {
    case TextClass::kAlpha: return alpha;
    case TextClass::kDecimal: return decimal;
    case TextClass::kDigit: return decimal || within(kOtherDigits, c);
    case TextClass::kAlnum:
      return alpha || decimal || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
    case TextClass::kSpace: return is_space(c);
    case TextClass::kAscii: return c < 0x80;
    default: return false;
  }
}

// str.istitle: upper case only after what has no case, lower case only after what has.
bool is_titled(const std::u32string& codes) {
  bool cased = false, previous_cased = false;
  for (const char32_t c : codes) {
    const bool begins = is_upper(c) || is_title(c);
    if ((begins && previous_cased) || (is_lower(c) && !previous_cased)) return false;
    previous_cased = is_cased(c);
    cased = cased || previous_cased;
  }
  return cased;
}

}  // namespace

std::string to_lower(std::string_view text) {
  std::string out;
  const std::u32string codes = decoded(text);
  for (size_t i = 0; i < codes.size(); ++i) append_lower(codes, i, out);
  return out;
}

std::string to_upper(std::string_view text) {
  std::string out;
  for (const char32_t code : decoded(text)) append_upper(code, out);
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  const std::u32string codes = decoded(text);
  bool previous_cased = false;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (previous_cased) {
      append_lower(codes, i, out);
    } else {
      append_title(codes[i], out);
    }
    previous_cased = is_cased(codes[i]);
  }
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  const std::u32string codes = decoded(text);
  for (size_t i = 0; i < codes.size(); ++i) {
    if (is_upper(codes[i])) {
      append_lower(codes, i, out);
    } else if (is_lower(codes[i])) {
      append_upper(codes[i], out);
    } else {
      append_utf8(codes[i], out);
    }
  }
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  const std::u32string codes = decoded(text);
  for (size_t i = 0; i < codes.size(); ++i) {
    if (i == 0) {
      append_title(codes[i], out);
    } else {
      append_lower(codes, i, out);
    }
  }
  return out;
}

bool is_all(std::string_view text, TextClass what) {
  const std::u32string codes = decoded(text);
  if (what == TextClass::kTitle) return is_titled(codes);
  if (what == TextClass::kLower || what == TextClass::kUpper) {
    const bool lower = what == TextClass::kLower;
    const auto wanted = [&](char32_t c) { return lower ? is_lower(c) : is_upper(c); };
    return std::any_of(codes.begin(), codes.end(), wanted) &&
           std::all_of(codes.begin(), codes.end(),
                       [&](char32_t c) { return wanted(c) || !is_cased(c); });
  }
  const bool all =
      std::all_of(codes.begin(), codes.end(), [&](char32_t c) { return has_class(c, what); });
  return all && (!codes.empty() || what == TextClass::kAscii);
}

}  // namespace tenon::jinja
