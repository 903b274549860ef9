// SPDX-License-Identifier: Apache-2.0
// ROUGE F-measures as Google's rouge-score 0.1.2 computes them without a stemmer. Its words are
// runs of a-z and 0-9 after lower-casing: a text in another script has none, and scores 0.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// 0..1 each.
struct RougeScores {
  double rouge1 = 0, rouge2 = 0;  // n-grams
  double rouge_l = 0;             // longest common subsequence
  double rouge_lsum = 0;          // the same by lines, each word counted once
};

// Throws Error(kInput) where a text has more than kRougeWords words, or both so many lines that
// comparing them would not end. Requires: both are UTF-8.
RougeScores rouge(std::string_view hypothesis, std::string_view reference);
inline constexpr int64_t kRougeWords = 1'000'000, kRougeLinePairs = 10'000'000;

std::vector<std::string> rouge_words(std::string_view text);

}  // namespace tenon
