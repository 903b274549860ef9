// SPDX-License-Identifier: Apache-2.0
// What Python's str does, on UTF-8: positions are in code points, white space and letters are
// Unicode's. Requires everywhere: texts are valid UTF-8.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::jinja {

// The value of a digit of any base up to 36; 36 for other characters.
int digit_value(char c);

// What a string literal of Jinja stands for (the text between its quotes). Throws Fault.
std::string unescape(std::string_view literal);

bool is_space(char32_t code);  // str.isspace

enum class Side { kLeft, kRight, kBoth };
// Without `chars`: strips white space.
std::string_view strip(std::string_view text, std::optional<std::string_view> chars, Side side);

std::string to_lower(std::string_view text);
std::string to_upper(std::string_view text);
std::string to_title(std::string_view text);  // str.title
std::string swap_case(std::string_view text);
std::string capitalize(std::string_view text);

// str.isalpha and its like: true of texts that have such characters, and no others.
enum class TextClass { kAlpha, kDigit, kDecimal, kAlnum, kSpace, kLower, kUpper, kTitle, kAscii };
bool is_all(std::string_view text, TextClass what);

// The byte at which code point `index` begins. Requires: 0 <= index <= their number.
size_t byte_of(std::string_view text, int64_t index);
int64_t code_points(std::string_view text);

// As std::string_view's, in time that grows with the lengths' sum.
size_t find(std::string_view text, std::string_view what, size_t from = 0);
size_t find_last(std::string_view text, std::string_view what);

// str.split and str.rsplit; without `separator` at runs of white space. `limit` < 0: all.
std::vector<std::string_view> split(std::string_view text,
                                    std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string_view> split_right(std::string_view text,
                                          std::optional<std::string_view> separator, int64_t limit);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

// How often `what`, which is not empty, occurs, without overlap.
int64_t occurrences(std::string_view text, std::string_view what);

}  // namespace tenon::jinja
