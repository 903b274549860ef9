// SPDX-License-Identifier: Apache-2.0
#include "text/scores/rouge.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "text/scores/lcs.h"
#include "text/scores/ngrams.h"
#include "text/utf8.h"

namespace tenon {
namespace {

using Words = std::vector<int32_t>;

double f_measure(int64_t common, size_t said, size_t meant) {
  if (common == 0) return 0;
  const double precision = static_cast<double>(common) / static_cast<double>(said);
  const double recall = static_cast<double>(common) / static_cast<double>(meant);
  return 2 * precision * recall / (precision + recall);
}

double ngram_score(const Words& said, const Words& meant, int n) {
  return f_measure(common_ngrams(said, meant, n), static_cast<size_t>(count_ngrams(said.size(), n)),
                   static_cast<size_t>(count_ngrams(meant.size(), n)));
}

// The words line by line, without empty lines.
std::vector<Words> numbered_lines(std::string_view text, WordNumbers& numbers) {
  std::vector<Words> lines;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    Words words = numbers.of(rouge_words(text.substr(begin, end - begin)));
    if (!words.empty()) lines.push_back(std::move(words));
    begin = end + 1;
  }
  return lines;
}

Words joined(const std::vector<Words>& lines) {
  Words all;
  for (const Words& line : lines) all.insert(all.end(), line.begin(), line.end());
  return all;
}

// For each line of the reference, which of its words lie in a longest common subsequence with any
// line of the hypothesis; of these each word of either text counts once.
double line_score(const std::vector<Words>& said, const std::vector<Words>& meant) {
  std::map<int32_t, int64_t> left_said, left_meant;
  size_t said_words = 0, meant_words = 0;
  for (const Words& line : said) {
    for (const int32_t word : line) ++left_said[word];
    said_words += line.size();
  }
  for (const Words& line : meant) {
    for (const int32_t word : line) ++left_meant[word];
    meant_words += line.size();
  }
  int64_t common = 0;
  for (const Words& line : meant) {
    std::vector<bool> found(line.size());
    for (const Words& other : said) {
      for (const int64_t position : lcs_positions(line, other)) found[position] = true;
    }
    for (size_t i = 0; i < line.size(); ++i) {
      const int32_t word = line[i];
      if (!found[i]) continue;
      if (left_said[word] == 0 || left_meant[word] == 0) continue;
      ++common;
      --left_said[word];
      --left_meant[word];
    }
  }
  return f_measure(common, said_words, meant_words);
}

}  // namespace

std::vector<std::string> rouge_words(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  while (!text.empty()) {
    const Utf8Char c = first_utf8(text);
    char32_t code = c.kind == Utf8Char::kValid ? c.code : 0;
    // The two characters beyond ASCII whose lower case has an ASCII letter: the Kelvin sign, and
    // the capital I with a dot, which becomes an i and a combining dot.
    const bool dotted = code == 0x130;
    if (code == 0x212A) code = 'k';
    if (dotted) code = 'i';
    if (code >= 'A' && code <= 'Z') code += 'a' - 'A';
    const bool word = (code >= 'a' && code <= 'z') || (code >= '0' && code <= '9');
    if (word && !inside) words.emplace_back();
    if (word) words.back() += static_cast<char>(code);
    inside = word && !dotted;
    text.remove_prefix(c.length);
  }
  return words;
}

RougeScores rouge(std::string_view hypothesis, std::string_view reference) {
  WordNumbers numbers;
  const std::vector<Words> said_lines = numbered_lines(hypothesis, numbers);
  const std::vector<Words> meant_lines = numbered_lines(reference, numbers);
  const Words said = joined(said_lines), meant = joined(meant_lines);
  const size_t most = std::max(said.size(), meant.size());
  if (most > kRougeWords)
    fail_input("ROUGE: expected a text of at most {} words, got {}", kRougeWords, most);
  const size_t pairs = said_lines.size() * meant_lines.size();
  if (pairs > kRougeLinePairs) {
    fail_input("ROUGE: expected at most {} pairs of lines, got {} and {} lines", kRougeLinePairs,
               said_lines.size(), meant_lines.size());
  }
  RougeScores scores;
  scores.rouge1 = ngram_score(said, meant, 1);
  scores.rouge2 = ngram_score(said, meant, 2);
  scores.rouge_l = f_measure(lcs_length(meant, said), said.size(), meant.size());
  scores.rouge_lsum = pairs == 1 ? scores.rouge_l : line_score(said_lines, meant_lines);
  return scores;
}

}  // namespace tenon
