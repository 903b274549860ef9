// SPDX-License-Identifier: Apache-2.0
// BLEU as sacreBLEU computes it with its defaults: the 13a tokenizer, exponential smoothing, mixed
// case, one reference a hypothesis. Counts are added up over a corpus; the score follows from their
// sums. Source: sacrebleu 2.6, tokenizers/tokenizer_13a.py and metrics/bleu.py.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

struct BleuCounts {
  static constexpr int kOrders = 4;
  std::array<int64_t, kOrders> matched{}, total{};  // n-grams of the hypotheses, n = 1..4
  int64_t hypothesis_words = 0, reference_words = 0;

  void add(const BleuCounts& other);
};

// Requires: both are UTF-8.
BleuCounts bleu_counts(std::string_view hypothesis, std::string_view reference);

struct Bleu {
  double score = 0;                                      // 0..100
  std::array<double, BleuCounts::kOrders> precisions{};  // 0..100
  double brevity_penalty = 0;
};

// With `effective_order` n-grams longer than the hypotheses do not count, as is usual for single
// sentences; without it, as for a corpus, they make the score 0.
Bleu bleu(const BleuCounts& counts, bool effective_order);

// What stands beside a score so that others can repeat it.
std::string bleu_signature(std::string_view version);

// The words of mteval-v13a's tokenizer.
std::vector<std::string> tokenize_13a(std::string_view text);

}  // namespace tenon
