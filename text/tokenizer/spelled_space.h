// SPDX-License-Identifier: Apache-2.0
// The character that stands for a space in vocabularies without bytes, and where a text may be cut
// because of it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

inline constexpr std::string_view kSpelledSpace = "\u2581";

// Whether `piece` holds one behind anything else.
bool has_inner_spelled_space(std::string_view piece);

// The last space of `text` that follows another character and none of the `added` tokens; 0 when
// there is none. What the tokenizers that use it ask of their vocabulary, so that a cut before such
// a space changes nothing, stands with them.
size_t last_cut_before_space(std::string_view text, const std::vector<std::string>& added);

}  // namespace tenon
