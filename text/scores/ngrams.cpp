// SPDX-License-Identifier: Apache-2.0
#include "text/scores/ngrams.h"

#include <algorithm>
#include <array>

namespace tenon {
namespace {

using Ngram = std::array<int32_t, 4>;

std::vector<Ngram> sorted_ngrams(std::span<const int32_t> words, int n) {
  std::vector<Ngram> ngrams(static_cast<size_t>(count_ngrams(words.size(), n)));
  for (size_t i = 0; i < ngrams.size(); ++i) {
    ngrams[i].fill(-1);
    std::copy_n(words.begin() + static_cast<int64_t>(i), n, ngrams[i].begin());
  }
  std::sort(ngrams.begin(), ngrams.end());
  return ngrams;
}

}  // namespace

std::vector<int32_t> WordNumbers::of(std::span<const std::string> words) {
  std::vector<int32_t> numbers;
  numbers.reserve(words.size());
  for (const std::string& word : words) {
    const auto next = static_cast<int32_t>(numbers_.size());
    numbers.push_back(numbers_.try_emplace(word, next).first->second);
  }
  return numbers;
}

int64_t common_ngrams(std::span<const int32_t> a, std::span<const int32_t> b, int n) {
  const std::vector<Ngram> left = sorted_ngrams(a, n), right = sorted_ngrams(b, n);
  int64_t common = 0;
  for (auto l = left.begin(), r = right.begin(); l != left.end() && r != right.end();) {
    if (*l == *r) {
      ++common;
      ++l;
      ++r;
    } else {
      *l < *r ? ++l : ++r;
    }
  }
  return common;
}

}  // namespace tenon
