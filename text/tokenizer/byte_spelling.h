// SPDX-License-Identifier: Apache-2.0
// The characters by which byte-level vocabularies spell bytes: a byte is itself where that is
// printable in Latin-1, else U+0100 and up in order (GPT-2's table).
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "text/utf8.h"

namespace tenon {

class ByteSpelling {
 public:
  ByteSpelling() {
    char32_t next = 0x100;
    byte_of_.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      const bool itself =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      spelling_[byte] = itself ? static_cast<char32_t>(byte) : next++;
      byte_of_[spelling_[byte]] = static_cast<int16_t>(byte);
    }
  }

  std::string token_of(int byte) const {
    std::string token;
    append_utf8(spelling_[byte], token);
    return token;
  }

  // `text` as a byte-level vocabulary spells it.
  std::string spelled(std::string_view text) const {
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    for (const char c : text) append_utf8(spelling_[static_cast<unsigned char>(c)], out);
    return out;
  }

  // The bytes that a token's text spells. A text with a character that spells no byte stands for
  // itself: that is how added tokens may hold spaces.
  std::string bytes_of(std::string_view token) const {
    std::string bytes;
    for (std::string_view rest = token; !rest.empty();) {
      const Utf8Char c = first_utf8(rest);
      if (c.kind != Utf8Char::kValid || c.code >= byte_of_.size() || byte_of_[c.code] < 0)
        return std::string(token);
      bytes += static_cast<char>(byte_of_[c.code]);
      rest.remove_prefix(c.length);
    }
    return bytes;
  }

 private:
  std::array<char32_t, 256> spelling_;
  std::array<int16_t, 0x100 + 68> byte_of_;  // 68 bytes are not printable
};

}  // namespace tenon
