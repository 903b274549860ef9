// SPDX-License-Identifier: Apache-2.0
#include "text/scores/scores.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/scores/lcs.h"
#include "text/scores/ngrams.h"

using namespace tenon;
using namespace tenon::test;

namespace {

constexpr double kBound = 1e-9;  // double arithmetic in another order

bool near(double got, double want) { return std::abs(got - want) <= kBound * std::max(1.0, want); }

TEST_CASE("scores of pairs are sacrebleu's and rouge-score's") {
  const Json made = parse_json_file(std::filesystem::path(TENON_SOURCE_DIR) /
                                    "tests/reference/scores/cases.json");
  ScoreSums sums;
  for (const Json& one : made.at("cases")) {
    const std::string hypothesis = one.at("hypothesis"), reference = one.at("reference");
    INFO(one.dump());
    const PairScores scores = score_pair(hypothesis, reference);
    CHECK(near(bleu(scores.bleu, true).score, one.at("bleu")));
    CHECK(near(scores.rouge.rouge1, one.at("rouge1")));
    CHECK(near(scores.rouge.rouge2, one.at("rouge2")));
    CHECK(near(scores.rouge.rouge_l, one.at("rougeL")));
    CHECK(near(scores.rouge.rouge_lsum, one.at("rougeLsum")));
    sums.add(scores);
  }
  const Json& corpus = made.at("corpus");
  const Bleu whole = bleu(sums.bleu, false);
  CHECK(sums.pairs == static_cast<int64_t>(made.at("cases").size()));
  CHECK(near(whole.score, corpus.at("bleu")));
  for (size_t n = 0; n < 4; ++n) CHECK(near(whole.precisions[n], corpus.at("precisions")[n]));
  CHECK(near(whole.brevity_penalty, corpus.at("brevity_penalty")));
  CHECK(sums.bleu.hypothesis_words == corpus.at("hypothesis_words"));
  CHECK(sums.bleu.reference_words == corpus.at("reference_words"));
}

TEST_CASE("scores of the shared pairs") {
  const auto path = shared_data("../reference/scores/expected.json");
  if (!std::filesystem::exists(path)) {
    WARN("skipped: no " << path.string());
    return;
  }
  const Json want = parse_json_file(path);
  ScoreSums sums;
  for (size_t i = 0; i < want.at("pairs").size(); ++i) {
    const std::string hypothesis = want.at("pairs")[i][0], reference = want.at("pairs")[i][1];
    const PairScores scores = score_pair(hypothesis, reference);
    CHECK(near(bleu(scores.bleu, true).score, want.at("sentence_bleu")[i]));
    CHECK(near(scores.rouge.rouge1, want.at("rouge1")[i]));
    CHECK(near(scores.rouge.rouge2, want.at("rouge2")[i]));
    CHECK(near(scores.rouge.rouge_l, want.at("rougeL")[i]));
    sums.add(scores);
  }
  CHECK(near(bleu(sums.bleu, false).score, want.at("bleu")));
}

TEST_CASE("the signature says how the score came about") {
  CHECK(bleu_signature("1.2") == "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tenon-1.2");
}

TEST_CASE("exact matches, and references without a word for ROUGE") {
  CHECK(score_pair(" 42\n", "42").exact);
  CHECK_FALSE(score_pair("42.", "42").exact);
  CHECK(score_pair("", "\t ").exact);
  CHECK(score_pair("x", "\u4e2d\u6587").wordless);
  CHECK_FALSE(score_pair("x", " ").wordless);
  CHECK_FALSE(score_pair("", "\u4e2d 1").wordless);
}

// The table as textbooks have it, read back as rouge-score does.
std::vector<int64_t> table_positions(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  std::vector<std::vector<int64_t>> t(a.size() + 1, std::vector<int64_t>(b.size() + 1, 0));
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j)
      t[i][j] = a[i - 1] == b[j - 1] ? t[i - 1][j - 1] + 1 : std::max(t[i - 1][j], t[i][j - 1]);
  }
  std::vector<int64_t> positions;
  for (size_t i = a.size(), j = b.size(); i > 0 && j > 0;) {
    if (a[i - 1] == b[j - 1]) {
      positions.insert(positions.begin(), static_cast<int64_t>(i) - 1);
      --i;
      --j;
    } else {
      t[i][j - 1] > t[i - 1][j] ? --j : --i;
    }
  }
  return positions;
}

TEST_CASE("the longest common subsequence is the table's") {
  uint32_t state = 11;
  const auto draw = [&](int64_t below) {
    state = state * 1664525u + 1013904223u;
    return static_cast<int32_t>((state >> 8) % below);
  };
  for (const int64_t most : {1, 5, 63, 64, 65, 200}) {
    for (int trial = 0; trial < 60; ++trial) {
      const int64_t alphabet = std::vector<int64_t>{1, 2, 4, 30, 300}[trial % 5];
      std::vector<int32_t> a(static_cast<size_t>(draw(most + 1)));
      std::vector<int32_t> b(static_cast<size_t>(trial % 2 == 0 ? most : draw(most + 1)));
      for (int32_t& word : a) word = draw(alphabet);
      for (int32_t& word : b) word = draw(alphabet);
      const std::vector<int64_t> want = table_positions(a, b);
      REQUIRE(lcs_length(a, b) == static_cast<int64_t>(want.size()));
      REQUIRE(lcs_positions(a, b) == want);
    }
  }
}

TEST_CASE("n-grams in common count as often as in the text with fewer") {
  const std::vector<int32_t> a = {1, 2, 1, 2, 1}, b = {2, 1, 2, 3};
  CHECK(common_ngrams(a, b, 1) == 3);
  CHECK(common_ngrams(a, b, 2) == 2);
  CHECK(common_ngrams(a, b, 3) == 1);
  CHECK(common_ngrams(a, b, 4) == 0);
  CHECK(common_ngrams(a, {}, 1) == 0);
}

TEST_CASE("bytes that are no text are scored too") {
  uint32_t state = 3;
  const auto draw = [&] {
    std::string bytes;
    for (uint32_t length = (state >> 10) % 60; length > 0; --length) {
      state = state * 1664525u + 1013904223u;
      // Often what tokenizers look for: spaces of three bytes, the Kelvin sign, cut off or whole.
      const std::string parts[] = {"\xE2\x80", "\xE3\x80\x80", "\xE2\x84\xAA", "&am", ".", "-\n"};
      bytes += (state >> 20) % 3 == 0 ? parts[(state >> 24) % 6]
                                      : std::string(1, static_cast<char>(state >> 16));
    }
    state = state * 1664525u + 1013904223u;
    return bytes;
  };
  for (int trial = 0; trial < 500; ++trial) {
    const std::string text = draw(), other = draw();
    const double same = bleu(score_pair(text, text).bleu, true).score;
    CHECK((same == 0 || near(same, 100)));
    const PairScores scores = score_pair(text, other);
    CHECK(bleu(scores.bleu, false).score <= 100 + kBound);
    CHECK(scores.rouge.rouge_l <= scores.rouge.rouge1 + kBound);
  }
}

TEST_CASE("texts that would take for ever are refused") {
  std::string words, many;
  for (int64_t i = 0; i <= kRougeWords; ++i) words += "a ";
  CHECK_THROWS_WITH(rouge(words, "a"), Catch::Contains("1000000 words"));
  for (int i = 0; i < 4000; ++i) many += "a b\n";
  CHECK_THROWS_WITH(rouge(many, many), Catch::Contains("4000 lines"));
  // A long line does end.
  const std::string line = words.substr(0, 100'000), other = "b " + line;
  CHECK(rouge(line, other).rouge_l == Approx(2 * 50'000.0 / 100'001));
}

}  // namespace
