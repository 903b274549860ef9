// SPDX-License-Identifier: Apache-2.0
// UTF-8 as text processing needs it: what is invalid is found by its maximal subparts, so that
// replacing them gives what Python's errors="replace" and the web's decoders give; and the classes
// that split patterns ask for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon {

struct Utf8Char {
  enum Kind : uint8_t { kValid, kInvalid, kUnfinished };
  char32_t code;   // of a valid character
  uint8_t length;  // bytes of it, or of the maximal part that is no character
  Kind kind;       // kUnfinished: the text ends inside what may yet become a character
};

// The character at the front. Requires: text is not empty.
Utf8Char first_utf8(std::string_view text);

// The bytes at the front that are valid UTF-8.
size_t valid_utf8_prefix(std::string_view text);

// The bytes at the end that may yet become a character when more text follows: 0..3.
size_t unfinished_utf8_tail(std::string_view text);

// Appends `text` with U+FFFD in the place of each maximal part that is not UTF-8.
void append_valid_utf8(std::string_view text, std::string& out);

// `text` itself where it is UTF-8, else what append_valid_utf8() makes of it, kept in `repaired`.
std::string_view as_valid_utf8(std::string_view text, std::string& repaired);

// Appends the character in UTF-8. Requires: code is a code point and no surrogate.
void append_utf8(char32_t code, std::string& out);

// What a regular expression takes a character for: letter and number as \p{L} and \p{N}, space as
// \s.
enum class CharClass : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3 };

// The classes of all 0x110000 code points: CharClass in the lower two bits, 4 for \w.
const uint8_t* unicode_class_table();

// The class, and in `length` the bytes, of the character at `text`. Requires: valid UTF-8 begins
// there.
inline CharClass class_of(const uint8_t* table, const char* text, size_t& length) {
  const auto byte = [&](int i) {
    return static_cast<uint32_t>(static_cast<unsigned char>(text[i]));
  };
  const uint32_t lead = byte(0);
  uint32_t code = lead;
  length = 1;
  if (lead >= 0xF0) {
    code = (lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
    length = 4;
  } else if (lead >= 0xE0) {
    code = (lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    length = 3;
  } else if (lead >= 0xC0) {
    code = (lead & 0x1F) << 6 | (byte(1) & 0x3F);
    length = 2;
  }
  return static_cast<CharClass>(table[code] & 3);
}

// Whether the character before, or at, `position` is \w or \s; false at the ends of the text.
// Requires: text is valid UTF-8, position is at a character.
bool word_before(std::string_view text, size_t position);
bool word_at(std::string_view text, size_t position);
bool space_before(std::string_view text, size_t position);
bool space_at(std::string_view text, size_t position);

// The start of the run of white space that ends at `position`, and the end of the run that starts
// there.
size_t spaces_begin(std::string_view text, size_t position);
size_t spaces_end(std::string_view text, size_t position);

}  // namespace tenon
