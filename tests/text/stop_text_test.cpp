// SPDX-License-Identifier: Apache-2.0
// Stop words, however the text is cut into pieces.
#include <catch2/catch.hpp>
#include <random>

#include "text/tokenizer/stop_text.h"

namespace tenon::test {

TEST_CASE("a stop word ends a text however it comes", "[stop]") {
  std::mt19937 random(4);
  const auto letters = [&](size_t count) {
    std::string text;
    while (text.size() < count) text += static_cast<char>('a' + random() % 2);
    return text;
  };
  int found = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::string text = letters(random() % 20);
    const std::vector<std::string> words = {letters(1 + random() % 5), letters(3 + random() % 4)};
    // The prefix that holds a word first, without the longest word at its end.
    size_t end = std::string::npos;
    for (size_t size = 1; size <= text.size() && end == std::string::npos; ++size) {
      for (const std::string& word : words) {
        if (text.substr(0, size).ends_with(word)) end = std::min(end, size - word.size());
      }
    }
    StopText stop(words);
    std::string got;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 4;
      got += stop.push(text.substr(at, size));
      at += size;
    }
    CAPTURE(text, words[0], words[1]);
    REQUIRE(stop.found() == (end != std::string::npos));
    REQUIRE(got + stop.finish() == text.substr(0, end));
    found += stop.found();
  }
  CHECK(found > 1000);
  CHECK(found < 2900);
}

TEST_CASE("a text is held back only where a stop word may have begun", "[stop]") {
  StopText stop({"</s>", "\n\n"});
  CHECK(stop.push("one\n") == "one");
  CHECK(stop.push("two<") == "\ntwo");
  CHECK(stop.push("/") == "");
  CHECK(stop.push("x") == "</x");
  CHECK(stop.push("y</s>z") == "y");
  CHECK(stop.push("more") == "");
  CHECK(stop.finish() == "");
  StopText none({});
  CHECK(none.push("all") == "all");
}

}  // namespace tenon::test
