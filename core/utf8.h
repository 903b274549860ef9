// SPDX-License-Identifier: Apache-2.0
// Whether bytes are UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
#pragma once

#include <cstddef>
#include <string_view>

namespace tenon {

// Length of the valid sequence at the front of `text`, or 0; the code point goes to `code`.
// Requires: text is not empty.
size_t decode_utf8(std::string_view text, char32_t& code);
bool is_utf8(std::string_view text);

}  // namespace tenon
