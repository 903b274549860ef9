// SPDX-License-Identifier: Apache-2.0
// How near answers come to references: BLEU, ROUGE and exact matches, of one pair and of many. Only
// sums are kept, so any number of pairs can be added.
#pragma once

#include <cstdint>
#include <string_view>

#include "text/scores/bleu.h"
#include "text/scores/rouge.h"

namespace tenon {

struct PairScores {
  BleuCounts bleu;
  RougeScores rouge;
  bool exact = false;     // alike but for white space around them
  bool wordless = false;  // the reference is not empty, but ROUGE finds no word in it
};
// Requires: both are UTF-8.
PairScores score_pair(std::string_view hypothesis, std::string_view reference);

// Sums over pairs; they depend on the pairs' order in the last bits only.
struct ScoreSums {
  int64_t pairs = 0, exact = 0, wordless = 0;
  BleuCounts bleu;
  RougeScores rouge;

  void add(const PairScores& scores);
  RougeScores mean_rouge() const;
  double exact_share() const;
};

}  // namespace tenon
