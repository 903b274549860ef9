// SPDX-License-Identifier: Apache-2.0
// A .txt that is no text is told and refused, in whichever way it is read.
#include "text/data/text_check.h"

#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/data/byte_source.h"
#include "text/data/encode_data.h"

using namespace tenon;
using namespace tenon::test;

namespace {

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

// What the check says of a file: the error, or what a person is told, or "".
std::string verdict(const std::string& text, bool skip_bad = false, int ranks = 1,
                    bool lines = false) {
  static const auto tokenizer = reference_tokenizer("gpt2");
  const TempFolder folder;
  const std::vector<std::filesystem::path> sources = {put_file(folder / "a.txt", text)};
  std::string told;
  TokenizeOptions options;
  options.lines = lines;
  options.chunk_bytes = 64;
  options.documents.skip_bad = skip_bad;
  options.documents.note = [&](const std::string& note) { told += note; };
  const std::string error = error_of([&] {
    TextCheck check(sources, options.documents);
    for (int rank = 0; rank < ranks; ++rank) {
      encode_data(sources, *tokenizer, options, Framing::kDocument, {rank, ranks},
                  [&](const EncodedPart& part) { check.take(part.source, part.faults); });
    }
    check.finish();
  });
  const std::string folder_name = folder.path().string() + "/";
  std::string text_out = error == "no error" ? told : error;
  if (const size_t at = text_out.find(folder_name); at != text_out.npos)
    text_out.erase(at, folder_name.size());
  return text_out;
}

}  // namespace

TEST_CASE("characters that are none are counted by what stands for them", "[text_check]") {
  const auto faults = [](std::string_view text) {
    const TextFaults f = text_faults(text, 100);
    return std::to_string(f.characters) + " " + std::to_string(f.bad) + " " +
           std::to_string(f.first);
  };
  CHECK(faults("") == "0 0 0");
  CHECK(faults("plain text, twenty-four.") == "24 0 0");
  CHECK(faults("\u00e9\u20ac\U0001F600 and so on") == "13 0 0");
  CHECK(faults("12345678\xFF.......12345678") == "24 1 108");
  CHECK(faults("a\xE2\x82z\xE2\x82\xAC\x80") == "5 2 101");  // cut off, then a byte alone
  for (size_t at = 0; at < 24; ++at) {  // NUL at any place of what is looked at eight at a time
    std::string text(24, 'x');
    text[at] = '\0';
    CHECK(faults(text) == "24 1 " + std::to_string(100 + at));
    text[at] = '\x80';
    CHECK(faults(text) == "24 1 " + std::to_string(100 + at));
    text[at] = '\x01';
    CHECK(faults(text) == "24 0 0");
  }
}

TEST_CASE("a .txt of which more than one in a hundred characters is none is refused",
          "[text_check]") {
  const std::string words = repeated("nine words\n", 40);  // of 11 characters
  CHECK(verdict(words).empty());
  for (const bool lines : {false, true}) {
    for (const int ranks : {1, 3}) {
      CAPTURE(lines, ranks);
      CHECK(verdict(words + repeated("\xFF", 4), false, ranks, lines) ==
            "a.txt: 4 of 444 characters are no text (not UTF-8, or NUL), the first at byte 440; "
            "U+FFFD is read for what is not UTF-8");
      CHECK_THAT(
          verdict(words + repeated("\xFF ", 5), false, ranks, lines),
          Catch::StartsWith("2: a.txt: expected UTF-8 text, got 5 characters that are none ") &&
              Catch::Contains(", the first at byte 440: is it binary"));
      CHECK_THAT(verdict(words + repeated("\xFF ", 5), true, ranks, lines),
                 Catch::StartsWith("a.txt: 5 of 450 characters are no text"));
    }
  }
  CHECK(
      verdict("\xFF" + words + "\xFF") ==
      "a.txt: 2 of 442 characters are no text (not UTF-8, or NUL), the first at byte 0; U+FFFD is "
      "read for what is not UTF-8");
  // UTF-16 without a byte order mark is UTF-8 with a NUL behind each letter.
  std::string utf16;
  for (const char letter : words) utf16 += {letter, '\0'};
  CHECK_THAT(verdict(utf16), Catch::StartsWith("2: a.txt: expected UTF-8 text, got "));
  CHECK_THAT(verdict(words + "caf\xE9, na\xEFve, \xFC" + "ber, \xE0, \xE7, \xF1"),
             Catch::Contains("is it binary, or in another encoding?"));
}

TEST_CASE("a .txt that is something else by its first bytes is named", "[text_check]") {
  using namespace std::string_literals;
  const std::pair<std::string, const char*> files[] = {
      {"\xFF\xFE"s
       "a\0"s,
       "UTF-16"},
      {"\xFE\xFF\0a"s, "UTF-16"},
      {"\xFF\xFE\0\0a\0\0\0"s, "UTF-32"},
      {"\0\0\xFE\xFF\0\0\0a"s, "UTF-32"},
      {"\x89PNG\r\n\x1a\n"s, "PNG"},
      {"\xFF\xD8\xFF\xE0"s, "JPEG"},
      {"%PDF-1.7\n"s, "PDF"},
      {"\x80\x04\x95\x05"s, "a pickle"},
      {"\x1F\x8B\x08"s, "gzip"},
      {"PK\x03\x04"s, "a zip"},
      {"GGUF\x03"s, "GGUF"},
      {"\x40\0\0\0\0\0\0\0{\"__metadata__\""s, "safetensors"}};
  for (const auto& [bytes, kind] : files) {
    CAPTURE(kind);
    for (const bool skip_bad : {false, true}) {
      CHECK(verdict(bytes, skip_bad) ==
            "2: a.txt: expected UTF-8 text, got " + std::string(kind) + " (by its first bytes)");
    }
  }
}
