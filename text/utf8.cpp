// SPDX-License-Identifier: Apache-2.0
#include "text/utf8.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "text/unicode_classes.h"

namespace tenon {
namespace {

constexpr uint8_t kWordFlag = 4;

uint8_t classes_at(std::string_view text, size_t position, size_t& length) {
  const Utf8Char c = first_utf8(text.substr(position));
  length = c.length;
  return c.kind == Utf8Char::kValid ? unicode_class_table()[c.code] : 0;
}

// The first byte of the character that ends at `position`. Requires: position > 0.
size_t previous(std::string_view text, size_t position) {
  size_t begin = position - 1;
  while (begin > 0 && position - begin < 4 &&
         (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
    --begin;
  return begin;
}

uint8_t classes_before(std::string_view text, size_t position) {
  size_t length = 0;
  const size_t begin = previous(text, position);
  return classes_at(text.substr(begin, position - begin), 0, length);
}

}  // namespace

Utf8Char first_utf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, Utf8Char::kValid};
  if (lead < 0xC2 || lead > 0xF4) return {0, 1, Utf8Char::kInvalid};
  const uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t code = lead & (0xFF >> (length + 1));
  for (uint8_t i = 1; i < length; ++i) {
    if (i == text.size()) return {0, i, Utf8Char::kUnfinished};
    // The second byte's range rules out overlong forms, surrogates and what lies beyond U+10FFFF
    // (Unicode table 3-7).
    const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (byte(i) < low || byte(i) > high) return {0, i, Utf8Char::kInvalid};
    code = code << 6 | (byte(i) & 0x3F);
  }
  return {code, length, Utf8Char::kValid};
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    uint64_t eight;
    if (text.size() - i >= sizeof eight) {  // eight ASCII characters at a time: most text is
      std::memcpy(&eight, text.data() + i, sizeof eight);
      if ((eight & 0x8080808080808080ull) == 0) {
        i += sizeof eight;
        continue;
      }
    }
    const Utf8Char c = first_utf8(text.substr(i));
    if (c.kind != Utf8Char::kValid) return i;
    i += c.length;
  }
  return i;
}

size_t unfinished_utf8_tail(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(3, text.size()); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    if ((static_cast<unsigned char>(tail[0]) & 0xC0) == 0x80) continue;
    const Utf8Char c = first_utf8(tail);
    return c.kind == Utf8Char::kUnfinished && c.length == length ? length : 0;
  }
  return 0;
}

void append_valid_utf8(std::string_view text, std::string& out) {
  while (!text.empty()) {
    const size_t valid = valid_utf8_prefix(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return;
    out += "\xEF\xBF\xBD";
    text.remove_prefix(first_utf8(text).length);
  }
}

std::string_view as_valid_utf8(std::string_view text, std::string& repaired) {
  if (valid_utf8_prefix(text) == text.size()) return text;
  repaired.clear();
  append_valid_utf8(text, repaired);
  return repaired;
}

void append_utf8(char32_t code, std::string& out) {
  const auto continuation = [&](int shift) {
    out += static_cast<char>(0x80 | (code >> shift & 0x3F));
  };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    continuation(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    continuation(6);
    continuation(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    continuation(12);
    continuation(6);
    continuation(0);
  }
}

const uint8_t* unicode_class_table() {
  static const std::unique_ptr<uint8_t[]> table = [] {
    auto classes = std::make_unique<uint8_t[]>(0x110000);
    for (const UnicodeRange& range : kUnicodeRanges) {
      std::fill(&classes[range.first], &classes[range.last] + 1, range.classes);
    }
    return classes;
  }();
  return table.get();
}

bool word_before(std::string_view text, size_t position) {
  return position > 0 && (classes_before(text, position) & kWordFlag) != 0;
}

bool word_at(std::string_view text, size_t position) {
  size_t length = 0;
  return position < text.size() && (classes_at(text, position, length) & kWordFlag) != 0;
}

bool space_before(std::string_view text, size_t position) {
  return position > 0 &&
         (classes_before(text, position) & 3) == static_cast<int>(CharClass::kSpace);
}

bool space_at(std::string_view text, size_t position) {
  return spaces_end(text, position) > position;
}

size_t spaces_begin(std::string_view text, size_t position) {
  while (space_before(text, position)) position = previous(text, position);
  return position;
}

size_t spaces_end(std::string_view text, size_t position) {
  size_t length = 0;
  while (position < text.size() &&
         (classes_at(text, position, length) & 3) == static_cast<int>(CharClass::kSpace)) {
    position += length;
  }
  return position;
}

}  // namespace tenon
