// SPDX-License-Identifier: Apache-2.0
// tokenizer.model as it may be damaged: each fault is refused with the file, none goes on.
#include <bit>
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/tokenizer/tokenizer.h"

using namespace tenon;
using namespace tenon::test;

namespace {

using Ids = std::vector<int32_t>;

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string number(int field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string text(int field, const std::string& value) {
  return varint(field << 3 | 2) + varint(value.size()) + value;
}
std::string real(int field, float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  std::string bytes = varint(field << 3 | 5);
  for (int i = 0; i < 4; ++i) bytes += static_cast<char>(bits >> 8 * i);
  return bytes;
}

std::string piece(const std::string& name, int type, float score = 0) {
  return text(1, text(1, name) + real(2, score) + (type == 1 ? "" : number(3, type)));
}
// A BPE model of a few letters; `more` pieces behind them, `trainer` settings behind its own.
std::string model(const std::string& more = "", const std::string& trainer = "") {
  return piece("<unk>", 2) + piece("<s>", 3) + piece("</s>", 3) + piece("\u2581", 1, -1) +
         piece("a", 1, -2) + piece("b", 1, -3) + piece("ab", 1, -1) + more +
         text(2, number(3, 2) + trainer) + text(3, number(3, 1) + number(4, 0));
}

std::string fault_of(const std::string& bytes) {
  TempFolder folder;
  put_file(folder / "tokenizer.model", bytes);
  std::string message = error_of([&] { Tokenizer::load(folder.path()); });
  if (message != "no error") CHECK_THAT(message, Catch::Contains("tokenizer.model: "));
  return message;
}

// All byte pieces, from id 7 on.
std::string byte_pieces() {
  std::string pieces;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    pieces += piece(name, 6);
  }
  return pieces;
}

}  // namespace

TEST_CASE("a small sentencepiece model works", "[sentencepiece]") {
  TempFolder folder;
  put_file(folder / "tokenizer.model", model());
  const auto t = Tokenizer::load(folder.path());
  CHECK(t->encode("ab</s>b") == Ids{3, 6, 2, 5});
  CHECK(t->decode(Ids{3, 6}) == "ab");
}

TEST_CASE("a control piece is special though no other file names it", "[sentencepiece]") {
  TempFolder folder;
  put_file(folder / "tokenizer.model", model(piece("<turn>", 3)));
  const auto t = Tokenizer::load(folder.path());
  CHECK(t->is_special(7));
  CHECK_FALSE(t->is_special(6));
  CHECK(t->decode(Ids{4, 7, 5}, true) == "ab");
}

TEST_CASE("a damaged sentencepiece model is refused with what is wrong", "[sentencepiece]") {
  CHECK(fault_of(model()) == "no error");
  CHECK_THAT(fault_of(""), Catch::StartsWith("2: "));
  CHECK_THAT(fault_of(model() + "\xFF"), Catch::Contains("a protobuf number"));
  CHECK_THAT(fault_of(model() + "\x0B"), Catch::Contains("a protobuf field"));  // a group
  CHECK_THAT(fault_of(model() + std::string("\x02\x00", 2)), Catch::Contains("a protobuf field"));
  CHECK_THAT(fault_of(model() + "\x0A\x7F"
                                "a"),
             Catch::Contains("complete"));
  CHECK_THAT(fault_of(model() + number(1, 5)), Catch::Contains("another protobuf type"));
  CHECK_THAT(fault_of(model(piece("a", 1))), Catch::Contains("\"a\" twice"));
  CHECK_THAT(fault_of(model(piece("", 1))), Catch::Contains("a piece with a text"));
  CHECK_THAT(fault_of(model(piece("c", 1, std::nanf("")))), Catch::Contains("finite"));
  CHECK_THAT(fault_of(model(piece("c", 1, INFINITY))), Catch::Contains("finite"));
  CHECK_THAT(fault_of(model(piece("c", 7))), Catch::Contains("type in 1..6"));
  CHECK_THAT(fault_of(model(piece("\xC3", 1))), Catch::Contains("UTF-8"));
  CHECK_THAT(fault_of(model(piece("<0x4>", 6))), Catch::Contains("byte piece"));
  CHECK_THAT(fault_of(model(piece("<other>", 2))), Catch::Contains("one piece of type unknown"));
  CHECK_THAT(fault_of(model("", number(40, 7))), Catch::Contains("ids of the 7 pieces"));
  CHECK_THAT(fault_of(model("", number(41, 1000))), Catch::Contains("ids of the 7 pieces"));
  CHECK(fault_of(model("", number(43, ~uint64_t{0}))) == "no error");  // -1: no padding
  CHECK_THAT(fault_of(model("", number(3, 4))), Catch::Contains("type 4 is not supported"));
  CHECK_THAT(fault_of(model("", number(35, 1))), Catch::Contains("a piece for each byte"));
  CHECK_THAT(fault_of(model() + text(3, text(2, "damaged map"))),
             Catch::Contains("map of characters"));
  // Cut behind a piece, or behind the trainer's settings, every field is whole.
  const std::string settings = text(2, number(3, 2));
  CHECK_THAT(fault_of(piece("<unk>", 2) + piece("a", 1)), Catch::Contains("the trainer"));
  CHECK_THAT(fault_of(piece("<unk>", 2) + piece("a", 1) + settings),
             Catch::Contains("the normalizer"));
}

TEST_CASE("broken runs of byte tokens decode as sentencepiece has them", "[sentencepiece]") {
  TempFolder folder;
  put_file(folder / "tokenizer.model", model(byte_pieces(), number(35, 1)));
  const auto t = Tokenizer::load(folder.path());
  const auto decoded = [&](const std::string& bytes, const Ids& behind = {}) {
    Ids ids;
    for (const char c : bytes) ids.push_back(7 + static_cast<unsigned char>(c));
    ids.insert(ids.end(), behind.begin(), behind.end());
    return t->decode(ids);
  };
  const std::string bad = "\uFFFD";
  CHECK(decoded("\xE3\x81\x82") == "\u3042");
  CHECK(decoded("\xE3\x81", {4}) == bad + bad + "a");  // one for each byte, not for each part
  CHECK(decoded("\xE3\x81\xE3\x81\x82") == bad + bad + "\u3042");
  CHECK(decoded("\x81\xE3\x81\x82\xF0", {4}) == bad + "\u3042" + bad + "a");
  CHECK(decoded("\xC3") == bad);
  CHECK(decoded("\xF0\x9F\x99") == bad + bad + bad);
  CHECK(decoded("\xED\xA0\x80", {5}) == bad + bad + bad + "b");  // half a surrogate
  CHECK(decoded("\xC0\xAF"
                "x") == bad + bad + "x");  // longer than need be
  // A run ends where another token stands, so that its halves are no character.
  Ids cut = {7 + 0xC3, 4, 7 + 0xA9};
  CHECK(t->decode(cut) == bad + "a" + bad);
}
