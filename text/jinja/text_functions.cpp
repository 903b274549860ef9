// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/text_functions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "text/jinja/value.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

// The character that ends at `end`.
Utf8Char last_utf8(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return first_utf8(text.substr(begin));
}

bool is_line_end(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

// What the digits of \x, \u, \U or an octal escape stand for.
void append_escaped(std::string_view digits, int base, size_t expected, std::string& out) {
  uint32_t code = 0;
  if (digits.size() < expected) throw Fault("a string ends within an escape");
  for (const char c : digits) {
    const int digit = digit_value(c);
    if (digit >= base) throw Fault("a string has an escape that is not made of hexadecimal digits");
    code = code * static_cast<uint32_t>(base) + static_cast<uint32_t>(digit);
  }
  if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
    throw Fault(fmt::format("a string has an escape for U+{:04X}, which is no character", code));
  }
  append_utf8(code, out);
}

// The bytes of `text` (which follows a backslash) that make up an escape.
size_t append_escape(std::string_view text, std::string& out) {
  constexpr std::string_view kNames = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
  const char c = text[0];
  if (const size_t name = kNames.find(c); name != kNames.npos) {
    out += kMeanings[name];
    return 1;
  }
  if (c == '\n') return 1;
  if (c == 'x' || c == 'u' || c == 'U') {
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    append_escaped(text.substr(1, digits), 16, digits, out);
    return 1 + digits;
  }
  if (c >= '0' && c <= '7') {
    size_t digits = 1;
    while (digits < 3 && digits < text.size() && text[digits] >= '0' && text[digits] <= '7') {
      ++digits;
    }
    append_escaped(text.substr(0, digits), 8, digits, out);
    return digits;
  }
  if (c == 'N') throw Fault("names of characters (\\N{...}) are not supported in strings");
  out += '\\';
  if (static_cast<unsigned char>(c) < 0x80) {
    out += c;
    return 1;
  }
  // Jinja2 escapes what is not ASCII before it looks at escapes: the backslash is doubled by that.
  const Utf8Char other = first_utf8(text);
  const auto code = static_cast<uint32_t>(other.code);
  out += code < 0x100     ? fmt::format("x{:02x}", code)
         : code < 0x10000 ? fmt::format("u{:04x}", code)
                          : fmt::format("U{:08x}", code);
  return other.length;
}

}  // namespace

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 36;
}

std::string unescape(std::string_view literal) {
  std::string out;
  while (!literal.empty()) {
    const size_t backslash = literal.find('\\');
    out += literal.substr(0, backslash);
    if (backslash == literal.npos) break;
    literal.remove_prefix(backslash + 1);
    literal.remove_prefix(append_escape(literal, out));
  }
  return out;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side) {
  const auto goes = [&](const Utf8Char& c, std::string_view bytes) {
    return chars ? find(*chars, bytes) != chars->npos : is_space(c.code);
  };
  while (side != Side::kRight && !text.empty()) {
    const Utf8Char c = first_utf8(text);
    if (!goes(c, text.substr(0, c.length))) break;
    text.remove_prefix(c.length);
  }
  while (side != Side::kLeft && !text.empty()) {
    const Utf8Char c = last_utf8(text);
    if (!goes(c, text.substr(text.size() - c.length))) break;
    text.remove_suffix(c.length);
  }
  return text;
}

int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

size_t byte_of(std::string_view text, int64_t index) {
  size_t byte = 0;
  for (; index > 0; --index) {
    do {
      ++byte;
    } while (byte < text.size() && (static_cast<unsigned char>(text[byte]) & 0xC0) == 0x80);
  }
  return byte;
}

size_t find_last(std::string_view text, std::string_view what) {
  const std::string backwards(text.rbegin(), text.rend());
  const size_t at = find(backwards, std::string(what.rbegin(), what.rend()));
  return at == text.npos ? at : text.size() - at - what.size();
}

size_t find(std::string_view text, std::string_view what, size_t from) {
  if (from > text.size()) return text.npos;
  if (what.empty()) return from;
  // memmem, for std::string_view::find takes the product of the lengths at worst.
  const void* at = memmem(text.data() + from, text.size() - from, what.data(), what.size());
  return at ? static_cast<size_t>(static_cast<const char*>(at) - text.data()) : text.npos;
}

std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit) {
  std::vector<std::string_view> parts;
  const auto full = [&] { return limit >= 0 && static_cast<int64_t>(parts.size()) >= limit; };
  if (separator) {
    size_t end = 0;
    while (!full() && (end = find(text, *separator)) != text.npos) {
      parts.push_back(text.substr(0, end));
      text.remove_prefix(end + separator->size());
    }
    parts.push_back(text);
    return parts;
  }
  text = strip(text, {}, Side::kLeft);
  while (!text.empty()) {
    if (full()) {
      parts.push_back(text);
      break;
    }
    size_t end = 0;
    while (end < text.size()) {
      const Utf8Char c = first_utf8(text.substr(end));
      if (is_space(c.code)) break;
      end += c.length;
    }
    parts.push_back(text.substr(0, end));
    text = strip(text.substr(end), {}, Side::kLeft);
  }
  return parts;
}

std::vector<std::string_view> split_right(std::string_view text,
                                          std::optional<std::string_view> separator,
                                          int64_t limit) {
  std::vector<std::string_view> parts;
  if (separator) {
    const std::string backwards(text.rbegin(), text.rend());
    const std::string wanted(separator->rbegin(), separator->rend());
    for (const std::string_view part : split(backwards, wanted, limit)) {
      const auto begin = static_cast<size_t>(part.data() - backwards.data());
      parts.push_back(text.substr(text.size() - begin - part.size(), part.size()));
    }
  } else {
    text = strip(text, {}, Side::kRight);
    while (!text.empty()) {
      if (limit >= 0 && static_cast<int64_t>(parts.size()) >= limit) {
        parts.push_back(text);
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        const Utf8Char c = last_utf8(text.substr(0, begin));
        if (is_space(c.code)) break;
        begin -= c.length;
      }
      parts.push_back(text.substr(begin));
      text = strip(text.substr(0, begin), {}, Side::kRight);
    }
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_utf8(text.substr(at));
    const size_t end = at;
    at += c.length;
    if (!is_line_end(c.code)) continue;
    if (c.code == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

int64_t occurrences(std::string_view text, std::string_view what) {
  int64_t count = 0;
  for (size_t at = 0; (at = find(text, what, at)) != text.npos; at += what.size()) ++count;
  return count;
}

}  // namespace tenon::jinja
