// SPDX-License-Identifier: Apache-2.0
#include "text/scores/scores.h"

#include <algorithm>

namespace tenon {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

}  // namespace

PairScores score_pair(std::string_view hypothesis, std::string_view reference) {
  return {.bleu = bleu_counts(hypothesis, reference),
          .rouge = rouge(hypothesis, reference),
          .exact = trimmed(hypothesis) == trimmed(reference),
          .wordless = !trimmed(reference).empty() && rouge_words(reference).empty()};
}

void ScoreSums::add(const PairScores& scores) {
  ++pairs;
  exact += scores.exact ? 1 : 0;
  wordless += scores.wordless ? 1 : 0;
  bleu.add(scores.bleu);
  rouge.rouge1 += scores.rouge.rouge1;
  rouge.rouge2 += scores.rouge.rouge2;
  rouge.rouge_l += scores.rouge.rouge_l;
  rouge.rouge_lsum += scores.rouge.rouge_lsum;
}

RougeScores ScoreSums::mean_rouge() const {
  const auto count = static_cast<double>(std::max<int64_t>(1, pairs));
  return {rouge.rouge1 / count, rouge.rouge2 / count, rouge.rouge_l / count,
          rouge.rouge_lsum / count};
}

double ScoreSums::exact_share() const {
  return static_cast<double>(exact) / static_cast<double>(std::max<int64_t>(1, pairs));
}

}  // namespace tenon
