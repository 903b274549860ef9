// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/spelled_space.h"

#include <algorithm>

namespace tenon {

bool has_inner_spelled_space(std::string_view piece) {
  while (piece.starts_with(kSpelledSpace)) piece.remove_prefix(kSpelledSpace.size());
  return piece.find(kSpelledSpace) != piece.npos;
}

size_t last_cut_before_space(std::string_view text, const std::vector<std::string>& added) {
  for (size_t i = text.size(); i-- > 1;) {
    const std::string_view front = text.substr(0, i);
    if (text[i] != ' ' || front.ends_with(' ') || front.ends_with(kSpelledSpace)) continue;
    const auto ends_there = [&](const std::string& token) { return front.ends_with(token); };
    if (std::none_of(added.begin(), added.end(), ends_there)) return i;
  }
  return 0;
}

}  // namespace tenon
