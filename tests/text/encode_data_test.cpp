// SPDX-License-Identifier: Apache-2.0
#include "text/data/encode_data.h"

#include <fmt/format.h>

#include <atomic>
#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/parallel_for.h"
#include "tests/text/text_cases.h"
#include "text/data/in_order.h"
#include "text/data/sources.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// The calling thread's share of the machine while a test runs.
struct Threads {
  int before = thread_count();
  explicit Threads(int count) { set_thread_count(count); }
  ~Threads() { set_thread_count(before); }
};

using Documents = std::vector<std::vector<int32_t>>;

// The documents of all ranks, one rank after the other.
Documents encoded(const std::vector<std::filesystem::path>& sources, const Tokenizer& tokenizer,
                  const TokenizeOptions& options, Framing framing, int ranks) {
  Documents documents = {{}};
  const DocumentSink sink = {.append =
                                 [&](std::span<const int32_t> ids, bool) {
                                   documents.back().insert(documents.back().end(), ids.begin(),
                                                           ids.end());
                                 },
                             .end_document = [&](bool) { documents.emplace_back(); }};
  Joiner joiner(tokenizer, framing, sink);
  for (int rank = 0; rank < ranks; ++rank) {
    encode_data(sources, tokenizer, options, framing, {rank, ranks},
                [&](const EncodedPart& part) { joiner.take(part); });
  }
  documents.pop_back();
  return documents;
}

std::string long_text(const std::string& line_end) {
  std::string text = "\xEF\xBB\xBF";
  for (const TokenizerCase& c : reference_cases("gpt2")) {
    for (const char byte : c.text) text += byte == '\n' || byte == '\r' ? ' ' : byte;
    text += line_end;
  }
  return text + "the last";
}

std::string records(int count, bool array) {
  std::string text = array ? "[" : "";
  for (int i = 0; i < count; ++i) {
    text += i > 0 && array ? "," : "";
    text +=
        Json({{"text", "record " + std::to_string(i) + std::string(i % 90, 'x')}}).dump() + "\n";
  }
  return text + (array ? "]" : "");
}

}  // namespace

TEST_CASE("items are worked on side by side and taken in order", "[encode_data]") {
  const Threads threads(GENERATE(1, 2, 5));
  int made = 0, held = 0, most = 0;
  std::atomic<int> worked = 0;
  std::vector<int> taken;
  in_order<int>(
      [&](int& item) {
        item = made;
        held = made - static_cast<int>(taken.size());
        most = std::max(most, held);
        return made++ < 500;
      },
      [&](int& item) {
        ++worked;
        item *= 2;
      },
      [&](const int& item) { taken.push_back(item); });
  REQUIRE(taken.size() == 500);
  for (int i = 0; i < 500; ++i) CHECK(taken[i] == 2 * i);
  CHECK(worked == 500);
  CHECK(most <= 4 * thread_count());
}

TEST_CASE("the first failure in the order of items is thrown, and nothing behind it taken",
          "[encode_data]") {
  const Threads threads(GENERATE(1, 4));
  const int bad_made = GENERATE(40, 1000), bad_worked = GENERATE(30, 1000),
            bad_taken = GENERATE(20, 1000);
  const int first = std::min({bad_made, bad_worked, bad_taken});
  int made = 0;
  std::vector<int> taken;
  const auto check = [](int item, int bad) {
    if (item >= bad) fail_input("item {}", item);
  };
  const std::string message = error_of([&] {
    in_order<int>(
        [&](int& item) {
          item = made++;
          check(item, bad_made);
          return item < 100;
        },
        [&](int& item) { check(item, bad_worked); },
        [&](const int& item) {
          check(item, bad_taken);
          taken.push_back(item);
        });
  });
  CHECK(taken.size() == static_cast<size_t>(std::min(first, 100)));
  CHECK(message == (first < 100 ? fmt::format("2: item {}", first) : "no error"));
}

TEST_CASE("documents do not depend on how many threads and ranks encode them", "[encode_data]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  TempFolder folder;
  const std::vector<std::filesystem::path> sources = {
      put_file(folder / "a.txt", long_text("\n")),
      put_file(folder / "b.jsonl", records(900, false)),
      put_file(folder / "c.json", records(50, true)), put_file(folder / "d.txt", "one"),
      put_file(folder / "e.txt", long_text("\r\n"))};
  TokenizeOptions options;
  options.lines = GENERATE(false, true);
  const Framing framing = GENERATE(Framing::kDocument, Framing::kNone);
  Documents alone;
  {
    const Threads one(1);
    alone = encoded(sources, *tokenizer, options, framing, 1);
  }
  CHECK(alone.size() > 950);
  for (const int count : {2, 5}) {
    const Threads threads(count);
    for (const int64_t chunk : {200, 5000}) {
      options.chunk_bytes = chunk;
      for (const int ranks : {1, 2, 3, 7}) {
        CAPTURE(count, chunk, ranks);
        CHECK(encoded(sources, *tokenizer, options, framing, ranks) == alone);
      }
    }
  }
}

TEST_CASE("each line of a .txt may be a record", "[encode_data]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  TempFolder folder;
  TokenizeOptions options;
  options.lines = true;
  const auto encode = [&](const std::string& text) { return tokenizer->encode(text); };
  const Documents got = encoded({put_file(folder / "a.txt", "the map\r\n\n\n a lamp\nx")},
                                *tokenizer, options, Framing::kPrompt, 1);
  CHECK(got == Documents{encode("the map"), {}, {}, encode(" a lamp"), encode("x")});
}

TEST_CASE("special tokens that stand in the data are counted", "[encode_data]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  TempFolder folder;
  const std::vector<std::filesystem::path> sources = {
      put_file(folder / "a.txt", "one<|endoftext|>two"),
      put_file(folder / "b.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b<|endoftext|>\"}\n")};
  const TokenFile file = build_or_open(folder / "t.tokens", sources, *tokenizer);
  REQUIRE(file.special_tokens().size() == 1);
  CHECK(file.special_tokens().begin()->first == *tokenizer->eos_id());
  CHECK(file.special_tokens().begin()->second == 2);  // not those that end documents
  CHECK(special_tokens_text(*tokenizer, {{*tokenizer->eos_id(), 2}}) == "<|endoftext|> x 2");
}

TEST_CASE("a token file may be the data itself", "[encode_data]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  TempFolder folder;
  const auto text = put_file(folder / "a.txt", "the map");
  const auto made = folder / "a.tokens", cache = folder / "cache";
  const int64_t tokens = build_or_open(made, std::vector{text}, *tokenizer).tokens();
  const TokenFile given = build_or_open(cache, std::vector{made}, *tokenizer);
  CHECK(given.tokens() == tokens);
  CHECK(given.path() == made);
  CHECK(!std::filesystem::exists(cache));
  CHECK_THAT(error_of([&] {
               build_or_open(cache, std::vector{made, text}, *tokenizer);
             }),
             Catch::Contains("a token file is data by itself, got 2 files"));
  const auto other = reference_tokenizer("vocab_merges");
  CHECK_THAT(error_of([&] { build_or_open(cache, std::vector{made}, *other); }),
             Catch::Contains("expected tokens of this model's tokenizer"));
}
