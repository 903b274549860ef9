// SPDX-License-Identifier: Apache-2.0
// Token files that somebody has changed and given the right checksum: what leads out of the file is
// refused by its byte.
#include <catch2/catch.hpp>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tests/text/text_cases.h"
#include "text/data/token_file.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// Where things lie in a file of ten ids of two bytes, three documents, two spans without score and
// two special tokens.
constexpr size_t kIds = 64, kBounds = kIds + 24, kUnscored = kBounds + 4 * 8,
                 kSpecial = kUnscored + 2 * 16, kFooter = kSpecial + 2 * 16;

template <class T>
void put(std::string& bytes, size_t at, T value) {
  std::memcpy(&bytes[at], &value, sizeof value);
}

struct Forger {
  TempFolder folder;
  std::filesystem::path path = folder / "t.tokens";
  std::string good;

  Forger() {
    TokenFileWriter writer(path, {1, 2, 3}, 700);
    writer.append(std::vector<int32_t>{5, 6}, false);
    writer.append(std::vector<int32_t>{7}, true);
    writer.end_document(true);
    writer.append(std::vector<int32_t>{8, 9, 600}, true);
    writer.end_document();
    writer.append(std::vector<int32_t>{1}, true);
    writer.append(std::vector<int32_t>{2, 3}, false);
    writer.append(std::vector<int32_t>{4}, true);
    writer.add_special(3, 2);
    writer.add_special(600, 1);
    writer.commit();
    good = get_file(path);
    REQUIRE(good.size() == kFooter + 64);
  }

  // What open() says of these bytes once their checksum is right; without the path.
  std::string verdict(std::string bytes) {
    const size_t footer = bytes.size() - 64;
    put(bytes, footer + 48,
        XXH3_64bits_withSeed(&bytes[footer], 48, XXH3_64bits(bytes.data(), footer)));
    put_file(path, bytes);
    const std::string message = error_of([&] { TokenFile::open(path); });
    const std::string begin = "2: " + path.string();
    return message.starts_with(begin) ? message.substr(begin.size()) : message;
  }
  template <class T>
  std::string with(size_t at, T value) {
    std::string bytes = good;
    put(bytes, at, value);
    return verdict(bytes);
  }
};

std::string at(size_t byte, const std::string& text) {
  return "@" + std::to_string(byte) + ": expected " + text;
}

}  // namespace

TEST_CASE("a token file that is as it was written is opened", "[token_file]") {
  Forger forger;
  CHECK(forger.verdict(forger.good) == "no error");
  const TokenFile file = TokenFile::open(forger.path);
  CHECK(file.documents() == 3);
  CHECK(file.scored_tokens() == 6);
  CHECK(file.largest_id() == 600);
  CHECK(file.special_tokens() == std::map<int32_t, int64_t>{{3, 2}, {600, 1}});
  // Spans that touch are as good as one.
  std::string touching = forger.good;
  put(touching, kUnscored + 16, int64_t{2});
  CHECK(forger.verdict(touching) == "no error");
}

TEST_CASE("a forged token file: documents", "[token_file]") {
  Forger forger;
  const auto bound = [](int64_t end) { return 2 * end; };
  CHECK(forger.with(kBounds, bound(1)) == at(kBounds, "the first document to begin at 0, got 2"));
  CHECK(forger.with(kBounds, int64_t{1}) == at(kBounds, "the first document to begin at 0, got 1"));
  const size_t first = kBounds + 8, second = kBounds + 16, last = kBounds + 24;
  CHECK(forger.with(first, bound(0)) == at(first, "document 1 to end within 1..10, got 0"));
  CHECK(forger.with(first, bound(-1)) == at(first, "document 1 to end within 1..10, got -1"));
  CHECK(forger.with(first, bound(7)) == at(second, "document 2 to end within 8..10, got 6"));
  CHECK(forger.with(second, bound(3)) == at(second, "document 2 to end within 4..10, got 3"));
  CHECK(forger.with(second, INT64_MAX) ==
        at(second, "document 2 to end within 4..10, got 4611686018427387903"));
  CHECK(forger.with(last, bound(11)) == at(last, "document 3 to end within 7..10, got 11"));
  CHECK(forger.with(last, bound(9)) ==
        at(last, "the last document to end at 10, where the tokens do, got 9"));
}

TEST_CASE("a forged token file: spans without score", "[token_file]") {
  Forger forger;
  const auto span = [&](size_t index, int64_t begin, int64_t end) {
    std::string bytes = forger.good;
    put(bytes, kUnscored + 16 * index, begin);
    put(bytes, kUnscored + 16 * index + 8, end);
    return forger.verdict(bytes);
  };
  const auto refused = [](size_t index, const std::string& within, const std::string& got) {
    return at(kUnscored + 16 * index, "a span without score within " + within + ", got " + got);
  };
  CHECK(span(0, -1, 2) == refused(0, "0..10", "-1..2"));
  CHECK(span(0, 2, 2) == refused(0, "0..10", "2..2"));
  CHECK(span(0, 2, 1) == refused(0, "0..10", "2..1"));
  CHECK(span(0, 0, 11) == refused(0, "0..10", "0..11"));
  CHECK(span(0, 0, INT64_MAX) == refused(0, "0..10", "0..9223372036854775807"));
  CHECK(span(0, 0, 8) == refused(1, "8..10", "7..9"));
  CHECK(span(1, 1, 9) == refused(1, "2..10", "1..9"));
  CHECK(span(1, 10, 11) == refused(1, "2..10", "10..11"));
}

TEST_CASE("a forged token file: ids", "[token_file]") {
  Forger forger;
  const size_t largest = kFooter + 24;
  const auto refused = [&](size_t byte, const std::string& up_to, const std::string& got) {
    return at(byte, "ids up to " + up_to + ", the largest by byte " + std::to_string(largest) +
                        ", got " + got);
  };
  CHECK(forger.with(largest, int64_t{599}) == refused(kIds + 10, "599", "600"));
  CHECK(forger.with(largest, int64_t{601}) == refused(kIds + 10, "601", "600"));
  CHECK(forger.with(largest, int64_t{-1}) == refused(kIds + 10, "-1", "600"));
  CHECK(forger.with(largest, (int64_t{1} << 32) + 600) == refused(kIds + 10, "4294967896", "600"));
  CHECK(forger.with(kIds + 18, uint16_t{65535}) == refused(kIds + 18, "600", "65535"));

  // Of four bytes, with one that is negative, and in a block that is not the first.
  const size_t count = 200'001;
  std::vector<int32_t> ids(count, 70'000);
  TokenFileWriter writer(forger.path, {1, 2, 3}, 128'256);
  writer.append(ids, true);
  writer.commit();
  forger.good = get_file(forger.path);
  const size_t footer = forger.good.size() - 64;
  CHECK(forger.verdict(forger.good) == "no error");
  const std::string end =
      "ids up to 70000, the largest by byte " + std::to_string(footer + 24) + ", got ";
  CHECK(forger.with(kIds + 4 * (count - 1), int32_t{70'001}) ==
        at(kIds + 4 * (count - 1), end + "70001"));
  CHECK(forger.with(kIds + 4 * 150'000, int32_t{-1}) == at(kIds + 4 * 150'000, end + "4294967295"));
  std::string negative = forger.good;
  put(negative, kIds, int32_t{-1});
  put(negative, footer + 24, int64_t{UINT32_MAX});
  CHECK(forger.verdict(negative).starts_with(at(kIds, "ids up to 4294967295")));
}

TEST_CASE("a forged token file: counts", "[token_file]") {
  Forger forger;
  const size_t tokens = kFooter, documents = kFooter + 8, unscored = kFooter + 16,
               special = kFooter + 32, skipped = kFooter + 40;
  for (const size_t count : {tokens, documents, unscored}) {
    for (const int64_t value : {int64_t{-1}, INT64_MIN, INT64_MAX, int64_t{1} << 62,
                                int64_t{1} << 61, int64_t{1} << 60, int64_t{249}}) {
      CHECK(forger.with(count, value) ==
            at(kFooter, "counts of 0..248, got " + std::to_string(value)));
    }
  }
  const auto sized = [](int64_t bytes) {
    return at(kFooter, std::to_string(bytes) + " bytes by the counts at the end, got 248");
  };
  CHECK(forger.with(tokens, int64_t{13}) == sized(248 + 8));
  CHECK(forger.with(documents, int64_t{2}) == sized(248 - 8));
  CHECK(forger.with(unscored, int64_t{3}) == sized(248 + 16));
  CHECK(forger.with(special, UINT32_MAX) == sized(248 + 16 * (int64_t{UINT32_MAX} - 2)));
  // Counts that make up for each other: what was a bound is now a span.
  std::string moved = forger.good;
  put(moved, documents, int64_t{1});
  put(moved, unscored, int64_t{3});
  CHECK(forger.verdict(moved) ==
        at(kBounds + 8, "the last document to end at 10, where the tokens do, got 3"));
  // Two ids are four bytes a piece.
  std::string wide = forger.good;
  put(wide, 12, uint32_t{4});
  CHECK(forger.verdict(wide) == sized(248 + 16));
  CHECK(forger.with(12, uint32_t{3}) == at(12, "2 or 4 bytes an id, got 3"));
  CHECK(forger.with(12, uint32_t{0}) == at(12, "2 or 4 bytes an id, got 0"));
  CHECK(forger.with(skipped, int64_t{-1}) == at(skipped, "a count of records passed over, got -1"));
  CHECK(forger.with(48, uint32_t{1}) == at(40, "zeros, which this version keeps free"));
  CHECK(forger.with(kFooter + 36, uint32_t{1}) == "no error");  // a count, of anything
  // None of anything.
  CHECK(forger.verdict(forger.good.substr(0, kIds) + std::string(8 + 56, '\0') + "TENONTOK") ==
        "no error");
}

TEST_CASE("a forged token file: special tokens", "[token_file]") {
  Forger forger;
  const auto refused = [](size_t index, const std::string& least, const std::string& got) {
    return at(kSpecial + 16 * index,
              "a special token of " + least + "..2147483647 and its count, got " + got);
  };
  CHECK(forger.with(kSpecial, int64_t{-1}) == refused(0, "0", "-1 and 2"));
  CHECK(forger.with(kSpecial, int64_t{600}) == refused(1, "601", "600 and 1"));
  CHECK(forger.with(kSpecial + 16, int64_t{1} << 31) == refused(1, "4", "2147483648 and 1"));
  CHECK(forger.with(kSpecial + 24, int64_t{-5}) == refused(1, "4", "600 and -5"));
}

TEST_CASE("a forged token file: every bit is refused, or the file can be read", "[token_file]") {
  Forger forger;
  int64_t refused = 0;
  for (size_t bit = 0; bit < 8 * forger.good.size(); ++bit) {
    std::string bytes = forger.good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    const std::string message = forger.verdict(bytes);
    if (message != "no error") {
      ++refused;
      CHECK(message.find(": expected ") != std::string::npos);
      continue;
    }
    const TokenFile file = TokenFile::open(forger.path);
    REQUIRE(file.tokens() == 10);
    REQUIRE(file.unscored_in({0, 10}) <= 10);
    for (int64_t i = 0; i < file.documents(); ++i) {
      const DocumentSpan document = file.document(i);
      std::vector<int32_t> ids(static_cast<size_t>(document.size()));
      file.copy_ids(document.begin, ids);
      for (const int32_t id : ids) CHECK(id <= file.largest_id());
    }
  }
  CHECK(refused > 1000);
}
