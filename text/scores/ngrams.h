// SPDX-License-Identifier: Apache-2.0
// Words as numbers, and what two texts have in common: n-grams and the longest subsequence. The
// scores of text/scores/bleu.h and text/scores/rouge.h are made of these counts.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// Numbers words 0, 1, ... in the order in which they are first met.
class WordNumbers {
 public:
  std::vector<int32_t> of(std::span<const std::string> words);

 private:
  std::map<std::string, int32_t, std::less<>> numbers_;
};

// How many n-grams of `a` stand in `b` too, each as often as in the one that has fewer of it.
// Requires: 1 <= n <= 4.
int64_t common_ngrams(std::span<const int32_t> a, std::span<const int32_t> b, int n);

// The n-grams in so many words.
inline int64_t count_ngrams(size_t words, int n) {
  const auto left = static_cast<int64_t>(words) - n + 1;
  return left > 0 ? left : 0;
}

}  // namespace tenon
