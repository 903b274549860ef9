// SPDX-License-Identifier: Apache-2.0
#include "bench/options.h"

#include <algorithm>
#include <regex>

#include "core/error.h"

namespace tenon::bench {

bool Options::wants(const std::string& text) const {
  return only.empty() || std::any_of(only.begin(), only.end(), [&](const std::string& word) {
           return text.find(word) != std::string::npos;
         });
}

std::vector<std::string> match_shape(const std::string& text, const char* pattern,
                                     const char* expected) {
  std::smatch match;
  if (!std::regex_match(text, match, std::regex(pattern)))
    fail_input("--shape: expected {}, got \"{}\"", expected, printable(text));
  std::vector<std::string> words;
  for (size_t i = 1; i < match.size(); ++i) words.push_back(match[i].str());
  return words;
}

int64_t extent(const std::string& word, int64_t absent) {
  return word.empty() ? absent : std::stoll(word);
}

}  // namespace tenon::bench
