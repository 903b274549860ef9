// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer.h"

#include <catch2/catch.hpp>

#include "core/file.h"
#include "tests/text/text_cases.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/normalize.h"
#include "text/tokenizer/split.h"
#include "text/utf8.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// Calls f with the two strings around each code point that make_tokenizer_cases.py hashes the
// splits of.
template <class F>
void for_each_code_point(F&& f) {
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    std::string c;
    append_utf8(code, c);
    f("a" + c + "1 " + c + c + "\n");
    f(" " + c + " '" + c + "s  " + c);
  }
}

std::string repeated(const std::string& text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("ids and decoded texts are those of Hugging Face tokenizers", "[tokenizer]") {
  const std::string name = GENERATE("gpt2", "vocab_merges", "features");
  const auto tokenizer = reference_tokenizer(name);
  const std::vector<TokenizerCase> cases = reference_cases(name);
  REQUIRE(cases.size() > 200);
  for (const TokenizerCase& c : cases) {
    CAPTURE(name, c.text);
    CHECK(tokenizer->encode(c.text) == c.ids);
    std::vector<int32_t> plain;
    tokenizer->encode_plain(c.text, plain);
    CHECK(plain == c.plain);
    CHECK(tokenizer->decode(c.ids) == c.decoded);
  }
}

TEST_CASE("a streamed text is the decoded text, and never ends inside a character", "[tokenizer]") {
  const std::string name = GENERATE("gpt2", "features");
  const auto tokenizer = reference_tokenizer(name);
  std::vector<int32_t> all;
  for (const TokenizerCase& c : reference_cases(name)) {
    StreamDecoder stream(*tokenizer);
    std::string text;
    for (const int32_t id : c.ids) {
      const std::string piece = stream.push(id);
      CHECK(valid_utf8_prefix(piece) == piece.size());
      text += piece;
    }
    CHECK(text + stream.finish() == c.decoded);
    all.insert(all.end(), c.ids.begin(), c.ids.end());
  }
  // Tokens in an order that no text has: single bytes of characters, side by side.
  std::vector<int32_t> mixed;
  for (size_t i = 0; i < all.size(); ++i) mixed.push_back(all[i * 7919 % all.size()]);
  StreamDecoder stream(*tokenizer, true);
  std::string text;
  for (const int32_t id : mixed) text += stream.push(id);
  CHECK(text + stream.finish() == tokenizer->decode(mixed, true));
}

TEST_CASE("GPT-2's pattern cuts around every code point as Hugging Face does", "[tokenizer]") {
  Fnv hash;
  for_each_code_point([&](std::string_view text) {
    while (!text.empty()) {
      const size_t length = gpt2_word(text);
      hash.add(length);
      text.remove_prefix(length);
    }
  });
  CHECK(hash.hex() == parse_json_file(reference("splits.json")).at("gpt2"));
}

TEST_CASE("other patterns cut around every code point as Hugging Face does", "[tokenizer]") {
  const Json splits = parse_json_file(reference("splits.json"));
  const RegexSplitter splitter("f", splits.at("llama3_pattern"), SplitBehavior::kIsolated, false);
  Fnv hash;
  std::vector<std::string_view> parts;
  for_each_code_point([&](std::string_view text) {
    parts.clear();
    splitter.split(text, parts);
    for (const std::string_view part : parts) hash.add(part.size());
  });
  CHECK(hash.hex() == splits.at("llama3"));
}

TEST_CASE("the five behaviors of a Split", "[tokenizer]") {
  const Json splits = parse_json_file(reference("splits.json"));
  const std::pair<std::string, SplitBehavior> behaviors[] = {
      {"removed", SplitBehavior::kRemoved},
      {"isolated", SplitBehavior::kIsolated},
      {"merged_with_previous", SplitBehavior::kMergedWithPrevious},
      {"merged_with_next", SplitBehavior::kMergedWithNext},
      {"contiguous", SplitBehavior::kContiguous}};
  for (const auto& [name, behavior] : behaviors) {
    for (const bool invert : {false, true}) {
      CAPTURE(name, invert);
      std::vector<std::string_view> parts;
      RegexSplitter("f", R"([a-c]|\d+)", behavior, invert).split("xaab12-cc, b 7 zz", parts);
      const Json& want = splits.at(name + (invert ? " inverted" : ""));
      CHECK(std::vector<std::string>(parts.begin(), parts.end()) ==
            want.get<std::vector<std::string>>());
    }
  }
}

TEST_CASE("a pattern that runs away or cannot be meant is an error", "[tokenizer]") {
  const auto split = [](const std::string& pattern, const std::string& text) {
    return error_of([&] {
      std::vector<std::string_view> parts;
      RegexSplitter("f: field \"pattern\"", pattern, SplitBehavior::kIsolated, false)
          .split(text, parts);
    });
  };
  CHECK_THAT(split("(a+)+$", std::string(40, 'a') + "b"),
             Catch::StartsWith("2: f: field \"pattern\": expected a pattern"));
  CHECK_THAT(
      split("(", "a"),
      Catch::StartsWith("2: f: field \"pattern\": expected a regular expression, got \"(\""));
  CHECK_THAT(split("[a[bc]]", "a"), Catch::Contains("sets within sets are not supported"));
  CHECK_THAT(split("[a-z&&[aeiou]]", "a"), Catch::Contains("sets within sets are not supported"));
  CHECK(split("x*", "axxb") == "no error");  // matches the empty string
  CHECK(split("[[:alpha:]]|\\[", "a[") == "no error");
}

TEST_CASE("text that is not UTF-8 is repaired by maximal subparts", "[tokenizer]") {
  const std::pair<std::string, std::string> cases[] = {
      {"\xC0\x80", "\uFFFD\uFFFD"},  // overlong: neither byte begins anything
      {"\xE2\x82", "\uFFFD"},        // cut off: one part
      {"\xF0\x9F\x98x", "\uFFFDx"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},  // a surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"a\x80"
       "b",
       "a\uFFFDb"},
      {"\xF0\x9F\x98\x80", "\U0001F600"}};
  for (const auto& [broken, repaired] : cases) {
    std::string out;
    append_valid_utf8(broken, out);
    CHECK(out == repaired);
  }
  CHECK(unfinished_utf8_tail("a\xF0\x9F\x98") == 3);
  CHECK(unfinished_utf8_tail("a\xE2\x82") == 2);
  CHECK(unfinished_utf8_tail("\xF4\x90") == 0);  // can become nothing
  CHECK(unfinished_utf8_tail("\xC3\xA9") == 0);
  CHECK(unfinished_utf8_tail("") == 0);
}

TEST_CASE("byte-level texts come back, whatever they hold", "[tokenizer]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  std::string everything;
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code < 0xD800 || code > 0xDFFF) append_utf8(code, everything);
  }
  CHECK(tokenizer->decode(tokenizer->encode(everything)) == everything);
  CHECK(tokenizer->encode("").empty());
  CHECK(tokenizer->decode({}).empty());
  CHECK(tokenizer->decode(std::vector<int32_t>{-1, 1 << 30, INT32_MAX}).empty());
}

// A step for each pair of characters would be 4e12 of them: the test would run into its time limit.
TEST_CASE("very long words take no quadratic time", "[tokenizer]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  const std::string unit = GENERATE("a", "0", " ", "\n", "\u4F60", "\u0301", "an", "the map");
  const std::string text = repeated(unit, 2'000'000 / unit.size());
  CAPTURE(unit);
  CHECK(tokenizer->decode(tokenizer->encode(text)) == text);
}

TEST_CASE("merges: the heap for long words does what the scan for short ones does", "[tokenizer]") {
  MergeTable table(4);  // 0 a, 1 b, 2 ab, 3 aa, 4 aab, 5 abab
  table.add(0, 0, {0, 3});
  table.add(0, 1, {1, 2});
  table.add(3, 1, {2, 4});
  table.add(2, 2, {3, 5});
  // The reference: merge the lowest rank, leftmost first, by plain search.
  const auto plainly = [&](std::vector<int32_t> word) {
    for (;;) {
      size_t best = word.size();
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        const int32_t rank = table.find(word[i], word[i + 1]).rank;
        if (rank >= 0 &&
            (best == word.size() || rank < table.find(word[best], word[best + 1]).rank))
          best = i;
      }
      if (best == word.size()) return word;
      word[best] = table.find(word[best], word[best + 1]).id;
      word.erase(word.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  };
  uint32_t state = 1;
  for (int length = 1; length < 80; ++length) {
    for (int draw = 0; draw < 20; ++draw) {
      std::vector<int32_t> word, got;
      for (int i = 0; i < length; ++i)
        word.push_back((state = state * 1664525u + 1013904223u) >> 31);
      table.encode(word, got);
      CHECK(got == plainly(word));
    }
  }
}

TEST_CASE("U+11A7 stays behind a Korean syllable", "[tokenizer]") {
  // utf8proc 2.8 drops it; the normal form keeps it.
  CHECK(normalize("\uC18C\u11A7", NormalForm::kNfc) == "\uC18C\u11A7");
  CHECK(normalize("\u1109\u1169\u11A8\u11A7", NormalForm::kNfc) == "\uC18D\u11A7");
  CHECK(normalize("\u11A7", NormalForm::kNfd) == "\u11A7");
  CHECK(normalize("e\u0301\uFB01", NormalForm::kNfkc) == "\u00E9fi");
}

TEST_CASE("what a tokenizer says of itself", "[tokenizer]") {
  const auto json = reference_tokenizer("gpt2"), pair = reference_tokenizer("vocab_merges");
  CHECK(json->vocabulary_size() == 539);
  CHECK(json->eos_id() == 0);
  CHECK(json->bos_id() == 0);
  CHECK(json->token(0) == "<|endoftext|>");
  CHECK(json->is_special(0));
  CHECK(!json->is_special(5));
  CHECK(!json->token(539).has_value());
  CHECK(!json->token(-1).has_value());
  CHECK(json->decode(json->encode("a<|endoftext|>b"), true) == "ab");
  CHECK(pair->eos_id() == 0);
  CHECK(json->fingerprint() == reference_tokenizer("gpt2")->fingerprint());
  CHECK(json->fingerprint() != pair->fingerprint());
}

TEST_CASE("the end of text comes from the tokenizer's config, then from the model's",
          "[tokenizer]") {
  TempFolder folder;
  copy_files(reference("gpt2"), folder.path());
  const auto eos = [&] { return Tokenizer::load(folder.path())->eos_id(); };
  put_file(folder / "config.json",
           R"({"eos_token_id": 50256})");  // not in this vocabulary: passed over
  CHECK(eos() == 0);
  put_file(folder / "generation_config.json", R"({"eos_token_id": [7, 8]})");
  CHECK(eos() == 7);
  put_file(folder / "config.json", R"({"eos_token_id": 9})");
  CHECK(eos() == 9);
  put_file(folder / "special_tokens_map.json", R"({"eos_token": {"content": "b"}})");
  const auto b = Tokenizer::load(folder.path());
  CHECK(b->token(*b->eos_id()) == "b");
  CHECK(b->encode("abba").size() == 4);  // a special token is one wherever it stands
  const uint64_t before = b->fingerprint();
  std::filesystem::remove(folder / "special_tokens_map.json");
  put_file(folder / "tokenizer_config.json",
           R"({"eos_token": "<|endoftext|>", "model_max_length": 1e30})");
  CHECK(eos() == 0);
  CHECK(Tokenizer::load(folder.path())->fingerprint() != before);
}

TEST_CASE("published vocabularies give Hugging Face's ids for whole files", "[tokenizer]") {
  const std::string name = GENERATE("gpt2", "neox");
  if (!std::filesystem::exists(shared_data("tokenizers") / name)) {
    WARN("SKIPPED: no " << shared_data("tokenizers") / name);
    return;
  }
  const auto tokenizer = Tokenizer::load(shared_data("tokenizers") / name);
  const Json wanted = parse_json_file(reference("shared.json"));
  for (const auto& [file, want] : wanted.at(name).items()) {
    CAPTURE(name, file);
    Fnv hash;
    const auto ids = tokenizer->encode(read_text(shared_data("text") / file, 1 << 30));
    for (const int32_t id : ids) hash.add(static_cast<uint64_t>(id));
    CHECK(ids.size() == want.at("count"));
    CHECK(hash.hex() == want.at("hash"));
  }
}

TEST_CASE("GPT-2's ids are those of llama.cpp's test strings", "[tokenizer]") {
  const auto folder = shared_data("tokenizers/vectors");
  if (!std::filesystem::exists(folder)) {
    WARN("SKIPPED: no " << folder);
    return;
  }
  TempFolder pair;  // from vocab.json and merges.txt alone
  for (const char* file : {"vocab.json", "merges.txt"}) {
    std::filesystem::copy_file(shared_data("tokenizers/gpt2") / file, pair / file);
  }
  const auto tokenizer = Tokenizer::load(pair.path());
  const std::string input = get_file(folder / "ggml-vocab-gpt-2.gguf.inp");
  std::istringstream output(get_file(folder / "ggml-vocab-gpt-2.gguf.out"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  int count = 0;
  for (size_t begin = 0; begin < input.size(); ++count) {
    const size_t end = std::min(input.find(separator, begin), input.size());
    const std::string text = input.substr(begin, end - begin);
    begin = end + separator.size();
    std::string line;
    std::getline(output, line);
    std::istringstream numbers(line);
    const std::vector<int32_t> want{std::istream_iterator<int32_t>(numbers), {}};
    CAPTURE(text);
    CHECK(tokenizer->encode(text) == want);
  }
  CHECK(count > 40);
}
