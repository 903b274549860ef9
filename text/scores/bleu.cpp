// SPDX-License-Identifier: Apache-2.0
#include "text/scores/bleu.h"

#include <fmt/format.h>

#include <cmath>

#include "text/scores/ngrams.h"
#include "text/utf8.h"

namespace tenon {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_period_or_comma(char c) { return c == '.' || c == ','; }

// The ASCII punctuation that always stands alone: not the apostrophe, comma, hyphen and period.
bool stands_alone(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') ||
         (c >= '(' && c <= '+') || (c >= ':' && c <= '@') || c == '/';
}

// What Python's str.split() splits at.
bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  if (text.find(from) == text.npos) return;
  std::string result;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != text.npos; begin = at + from.size()) {
    result.append(text, begin, at - begin);
    result += to;
  }
  text = result.append(text, begin);
}

// Rewrites each pair of neighbours for which `matches` holds by `write`, from left to right; a pair
// begins behind the one before it. Bytes do for characters: one half of a pair is always ASCII.
template <class Matches, class Write>
std::string rewrite_pairs(const std::string& text, Matches matches, Write write) {
  std::string result;
  result.reserve(text.size() + text.size() / 4);
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && matches(text[i], text[i + 1])) {
      write(result, text[i], text[i + 1]);
      ++i;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  bool inside = false;
  while (!text.empty()) {
    const Utf8Char c = first_utf8(text);
    const bool space = c.kind == Utf8Char::kValid && is_python_space(c.code);
    if (!space && !inside) words.emplace_back();
    if (!space) words.back() += text.substr(0, c.length);
    inside = !space;
    text.remove_prefix(c.length);
  }
  return words;
}

// The text without the white space at its end.
std::string_view stripped(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_utf8(text.substr(at));
    at += c.length;
    if (c.kind != Utf8Char::kValid || !is_python_space(c.code)) end = at;
  }
  return text.substr(0, end);
}

}  // namespace

std::vector<std::string> tokenize_13a(std::string_view given) {
  std::string text(stripped(given));
  replace_all(text, "<skipped>", "");
  replace_all(text, "-\n", "");
  replace_all(text, "\n", " ");
  for (const auto& [entity, character] :
       {std::pair{"&quot;", "\""}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}})
    replace_all(text, entity, character);

  std::string apart = " ";
  for (const char c : text) stands_alone(c) ? (apart += ' ', apart += c, apart += ' ') : apart += c;
  apart += ' ';
  apart = rewrite_pairs(
      apart, [](char a, char b) { return !is_digit(a) && is_period_or_comma(b); },
      [](std::string& out, char a, char b) {
        out += {a, ' ', b, ' '};
      });
  apart = rewrite_pairs(
      apart, [](char a, char b) { return is_period_or_comma(a) && !is_digit(b); },
      [](std::string& out, char a, char b) {
        out += {' ', a, ' ', b};
      });
  apart = rewrite_pairs(
      apart, [](char a, char b) { return is_digit(a) && b == '-'; },
      [](std::string& out, char a, char b) {
        out += {a, ' ', b, ' '};
      });
  return split(apart);
}

void BleuCounts::add(const BleuCounts& other) {
  for (int n = 0; n < kOrders; ++n) {
    matched[n] += other.matched[n];
    total[n] += other.total[n];
  }
  hypothesis_words += other.hypothesis_words;
  reference_words += other.reference_words;
}

BleuCounts bleu_counts(std::string_view hypothesis, std::string_view reference) {
  WordNumbers numbers;
  const std::vector<int32_t> said = numbers.of(tokenize_13a(hypothesis));
  const std::vector<int32_t> meant = numbers.of(tokenize_13a(reference));
  BleuCounts counts;
  for (int n = 1; n <= BleuCounts::kOrders; ++n) {
    counts.matched[n - 1] = common_ngrams(said, meant, n);
    counts.total[n - 1] = count_ngrams(said.size(), n);
  }
  counts.hypothesis_words = static_cast<int64_t>(said.size());
  counts.reference_words = static_cast<int64_t>(meant.size());
  return counts;
}

Bleu bleu(const BleuCounts& counts, bool effective_order) {
  Bleu result;
  const auto said = static_cast<double>(counts.hypothesis_words);
  const auto meant = static_cast<double>(counts.reference_words);
  result.brevity_penalty = said >= meant ? 1 : said > 0 ? std::exp(1 - meant / said) : 0;
  if (counts.matched == std::array<int64_t, BleuCounts::kOrders>{}) return result;

  double smoothing = 1, logarithms = 0;
  int orders = 0;
  for (; orders < BleuCounts::kOrders && counts.total[orders] > 0; ++orders) {
    const auto total = static_cast<double>(counts.total[orders]);
    // The k-th order without a match counts as 1 / 2^k of one.
    const double matched = counts.matched[orders] > 0 ? static_cast<double>(counts.matched[orders])
                                                      : 1 / (smoothing *= 2);
    result.precisions[orders] = 100 * matched / total;
    logarithms += std::log(result.precisions[orders]);
  }
  if (orders == BleuCounts::kOrders || effective_order)
    result.score = result.brevity_penalty * std::exp(logarithms / orders);
  return result;
}

std::string bleu_signature(std::string_view version) {
  return fmt::format("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tenon-{}", version);
}

}  // namespace tenon
