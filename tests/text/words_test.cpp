// SPDX-License-Identifier: Apache-2.0
// The patterns that are cut by hand, against the same patterns in PCRE2.
#include <catch2/catch.hpp>
#include <functional>

#include "tests/text/text_cases.h"
#include "text/tokenizer/split.h"
#include "text/utf8.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// A scanner, and the pattern that does the same.
struct Cutter {
  const char* name;
  WordScanner* scanner;
  std::unique_ptr<RegexSplitter> pattern;

  Cutter(const char* n, WordScanner* s, const char* regex)
      : name(n),
        scanner(s),
        pattern(std::make_unique<RegexSplitter>("f", regex, SplitBehavior::kIsolated, false)) {}
  std::vector<std::string_view> by_hand(std::string_view text) const {
    std::vector<std::string_view> words;
    while (!text.empty()) {
      words.push_back(text.substr(0, scanner(text)));
      text.remove_prefix(words.back().size());
    }
    return words;
  }
  std::vector<std::string_view> by_regex(std::string_view text) const {
    std::vector<std::string_view> parts;
    pattern->split(text, parts);
    return parts;
  }
};

const std::vector<Cutter>& cutters() {
  static const std::vector<Cutter> all = [] {
    std::vector<Cutter> list;
    list.emplace_back("gpt2", gpt2_word, kGpt2Pattern);
    list.emplace_back("llama3", llama3_word, kLlama3Pattern);
    list.emplace_back("qwen2", qwen2_word, kQwen2Pattern);
    return list;
  }();
  return all;
}

// Whether a code point is worth its time: all that Unicode 16 has assigned, and some of the others.
bool worth(char32_t code) {
  if (code >= 0xD800 && code <= 0xDFFF) return false;
  return code < 0x32400 || (code >= 0xE0000 && code < 0xE0200) || code % 101 == 0;
}

}  // namespace

TEST_CASE("words cut by hand are those of PCRE2 around every code point", "[split]") {
  const Cutter& cutter = cutters()[GENERATE(0, 1, 2)];
  int64_t differ = 0, texts = 0;
  std::string first;
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (!worth(code)) continue;
    std::string c;
    append_utf8(code, c);
    const std::string text = c + "\r\n " + c + "e 12" + c + "34 .'" + c + "s  " + c;
    ++texts;
    if (cutter.by_hand(text) != cutter.by_regex(text) && differ++ == 0) first = text;
  }
  CAPTURE(cutter.name, first);
  CHECK(differ == 0);
  CHECK(texts > 200'000);
}

TEST_CASE("words cut by hand are those of PCRE2 in every short text of what patterns name",
          "[split]") {
  const Cutter& cutter = cutters()[GENERATE(0, 1, 2)];
  const std::vector<std::string> letters = {"a",
                                            "s",
                                            "L",
                                            "l",
                                            "e",
                                            "V",
                                            "'",
                                            " ",
                                            "\n",
                                            "\r",
                                            "\t",
                                            "7",
                                            ".",
                                            "\u00E9" /* letter */,
                                            "\u017F" /* folds to s */,
                                            "\u00B2" /* number */,
                                            "\u3000" /* space */,
                                            "\u0301" /* other */};
  int64_t differ = 0, texts = 0;
  std::string first;
  const std::function<void(std::string, int)> extend = [&](const std::string& text, int left) {
    if (!text.empty()) {
      ++texts;
      if (cutter.by_hand(text) != cutter.by_regex(text) && differ++ == 0) first = text;
    }
    if (left == 0) return;
    for (const std::string& letter : letters) extend(text + letter, left - 1);
  };
  extend("", 4);
  CAPTURE(cutter.name, first);
  CHECK(differ == 0);
  CHECK(texts == 18 + 18 * 18 + 18 * 18 * 18 + 18 * 18 * 18 * 18);
}

TEST_CASE("Llama 3's pattern by hand cuts as Hugging Face does", "[split]") {
  Fnv hash;
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    std::string c;
    append_utf8(code, c);
    for (const std::string& text :
         {"a" + c + "1 " + c + c + "\n", " " + c + " '" + c + "s  " + c}) {
      for (std::string_view rest = text; !rest.empty();) {
        const size_t length = llama3_word(rest);
        hash.add(length);
        rest.remove_prefix(length);
      }
    }
  }
  const Json splits = parse_json_file(reference("splits.json"));
  CHECK(splits.at("llama3_pattern") == kLlama3Pattern);
  CHECK(hash.hex() == splits.at("llama3"));
}
