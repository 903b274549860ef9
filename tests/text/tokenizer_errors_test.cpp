// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/tokenizer.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// A tokenizer.json that is right; each test breaks one thing in it.
Json small_tokenizer() {
  return Json::parse(R"({
    "added_tokens": [{"id": 5, "content": "<e>", "special": true, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": {"type": "ByteLevel"},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4},
              "merges": ["a b", ["ab", "c"]]}})");
}

// The verdict on the file after `change`, without the folder's name.
template <class F>
std::string verdict(F&& change) {
  TempFolder folder;
  Json json = small_tokenizer();
  change(json);
  put_file(folder / "tokenizer.json", json.dump());
  std::string message = error_of([&] { Tokenizer::load(folder.path()); });
  if (const size_t at = message.find(folder.path().string()); at != message.npos) {
    message.erase(at, folder.path().string().size() + 1);
  }
  return message;
}

}  // namespace

TEST_CASE("a small tokenizer.json works", "[tokenizer]") {
  CHECK(verdict([](Json&) {}) == "no error");
  TempFolder folder;
  put_file(folder / "tokenizer.json", small_tokenizer().dump());
  const auto tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer->encode("abcab<e>ca") == std::vector<int32_t>{4, 3, 5, 2, 0});
  CHECK(tokenizer->encode("axb") ==
        std::vector<int32_t>{3});  // a byte without a token leaves no trace
  CHECK(tokenizer->vocabulary_size() == 6);
  CHECK(!tokenizer->eos_id().has_value());
}

TEST_CASE("what is not supported is refused by name", "[tokenizer]") {
  const auto refused = [](const char* pointer, const Json& value) {
    return verdict([&](Json& json) { json[Json::json_pointer(pointer)] = value; });
  };
  CHECK(refused("/model/type", "Unigram") ==
        "2: tokenizer.json: model type Unigram is not supported (supported: BPE)");
  CHECK(refused("/normalizer", {{"type", "Precompiled"}}) ==
        "2: tokenizer.json: normalizer Precompiled is not supported (supported: NFC, NFD, NFKC, "
        "NFKD)");
  CHECK(refused("/pre_tokenizer", {{"type", "Metaspace"}}) ==
        "2: tokenizer.json: pre_tokenizer Metaspace is not supported (supported: ByteLevel, or a "
        "Sequence of Split "
        "that ends with ByteLevel)");
  CHECK_THAT(refused("/pre_tokenizer", nullptr),
             Catch::StartsWith("2: tokenizer.json: pre_tokenizer null is not"));
  CHECK_THAT(refused("/decoder", {{"type", "WordPiece"}}),
             Catch::StartsWith("2: tokenizer.json: decoder WordPiece is not"));
  CHECK_THAT(
      refused("/post_processor", Json::parse(R"({"type": "TemplateProcessing", "single": [
                      {"SpecialToken": {"id": "<e>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]})")),
      Catch::StartsWith("2: tokenizer.json: post_processor TemplateProcessing is not supported"));
  CHECK(refused("/post_processor", Json::parse(R"({"type": "TemplateProcessing", "single": [
                 {"Sequence": {"id": "A", "type_id": 0}}]})")) == "no error");
  CHECK_THAT(refused("/model/continuing_subword_prefix", "##"),
             Catch::Contains("continuing_subword_prefix ## is not"));
  CHECK_THAT(refused("/model/byte_fallback", true),
             Catch::Contains("byte_fallback true is not supported"));
  CHECK_THAT(refused("/pre_tokenizer",
                     Json::parse(R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"},
                      {"type": "ByteLevel"}]})")),
             Catch::Contains("pre_tokenizer Digits is not supported"));
}

TEST_CASE("a broken vocabulary, merge or added token is named", "[tokenizer]") {
  const auto broken = [](const char* pointer, const Json& value) {
    return verdict([&](Json& json) { json[Json::json_pointer(pointer)] = value; });
  };
  CHECK(broken("/model/vocab", Json::object()) ==
        "2: tokenizer.json: field \"model.vocab\": expected an object of tokens and their ids, got "
        "an "
        "empty one");
  CHECK_THAT(broken("/model/vocab", 3), Catch::EndsWith("tokens and their ids, got 3"));
  const std::string range = "expected an id in 0..2097151, got ";
  for (const auto& [value, shown] :
       {std::pair(Json(-1), "-1"), std::pair(Json(1.5), "1.5"), std::pair(Json("1"), "\"1\""),
        std::pair(Json(4294967296), "4294967296"), std::pair(Json(), "null")}) {
    CHECK(broken("/model/vocab/b", value) ==
          "2: tokenizer.json: field \"model.vocab.b\": " + range + shown);
  }
  CHECK(broken("/model/vocab/b", 0) ==
        "2: tokenizer.json: field \"model.vocab.b\": expected an id of its own, got 0, which \"a\" "
        "has");
  CHECK(broken("/model/vocab/b", 9) == "no error");  // a gap is no fault
  for (const Json& merge :
       {Json("a b c"), Json("a"), Json(" b"), Json("a "), Json(7), Json({"a"}), Json({"a", ""})}) {
    CHECK_THAT(
        broken("/model/merges/1", merge),
        Catch::StartsWith(
            "2: tokenizer.json: field \"model.merges[1]\": expected two tokens, as \"a b\""));
  }
  CHECK(broken("/model/merges/1", "c z") ==
        "2: tokenizer.json: field \"model.merges[1]\": expected tokens of the "
        "vocabulary, got \"c z\" where \"z\" is not in it");
  CHECK_THAT(broken("/model/merges/1", "c b"), Catch::EndsWith("where \"cb\" is not in it"));
  CHECK_THAT(broken("/model/merges", 3),
             Catch::StartsWith("2: tokenizer.json: field \"model.merges\": expected a list"));
  CHECK_THAT(broken("/model/unk_token", "?"),
             Catch::Contains("field \"model.unk_token\": expected a token"));
  CHECK_THAT(broken("/added_tokens/0/content", ""),
             Catch::Contains("added_tokens[0]: expected a token of 1..4096 bytes, got 0"));
  CHECK_THAT(broken("/added_tokens/0/content", std::string(1 << 20, 'x')),
             Catch::EndsWith("bytes, got 1048576"));
  CHECK_THAT(broken("/added_tokens/0/id", 2),
             Catch::Contains("expected an id of its own for \"<e>\", got 2"));
  CHECK_THAT(broken("/added_tokens/0/content", "ab"),
             Catch::Contains("expected \"ab\" to have the id 3, as before, got 5"));
  CHECK_THAT(broken("/added_tokens/0/id", -2),
             Catch::Contains("field \"id\": expected an integer in 0..2097151"));
  CHECK_THAT(broken("/model", 3), Catch::Contains("field \"model\": expected an object"));
}

TEST_CASE("a broken folder, merges.txt or config is named with its place", "[tokenizer]") {
  const auto load = [](const TempFolder& folder) {
    return error_of([&] { Tokenizer::load(folder.path()); });
  };
  TempFolder folder;
  CHECK_THAT(
      load(folder),
      Catch::EndsWith(
          "expected a tokenizer (tokenizer.json, or vocab.json and merges.txt), got neither"));
  put_file(folder / "tokenizer.model", "\n");
  CHECK_THAT(
      load(folder),
      Catch::Contains("tokenizer.model: a sentencepiece or tiktoken model is not supported"));
  put_file(folder / "vocab.json", R"({"#": 0, "a": 1, "##": 2, "<|endoftext|>": 3})");
  CHECK_THAT(load(folder), Catch::Contains("merges.txt"));  // missing
  put_file(folder / "merges.txt", "#version: 0.2\r\n# #\r\n");
  CHECK(load(folder) == "no error");
  CHECK(Tokenizer::load(folder.path())->encode("##a<|endoftext|>") ==
        std::vector<int32_t>{2, 1, 3});
  put_file(folder / "merges.txt", "#version: 0.2\n# #\na\n");
  CHECK_THAT(
      load(folder),
      Catch::EndsWith("merges.txt:3: expected two tokens with one space between, got \"a\""));
  put_file(folder / "merges.txt", "#version: 0.2\n# a\n");
  CHECK_THAT(load(folder), Catch::EndsWith("merges.txt:2: expected tokens of the vocabulary, got "
                                           "\"# a\" where \"#a\" is not in it"));
  put_file(folder / "merges.txt", "");
  put_file(folder / "tokenizer_config.json", R"({"pad_token": "[PAD]"})");
  CHECK_THAT(load(folder),
             Catch::Contains(
                 "tokenizer_config.json: field \"pad_token\": expected a token of the vocabulary"));
  put_file(folder / "tokenizer_config.json", R"({"add_bos_token": true})");
  CHECK_THAT(load(folder), Catch::EndsWith("add_bos_token true is not supported"));
  put_file(folder / "tokenizer_config.json",
           R"({"added_tokens_decoder": {"x": {"content": "a"}}})");
  CHECK_THAT(load(folder),
             Catch::Contains("field \"added_tokens_decoder.x\": expected a token id as the key"));
  put_file(folder / "tokenizer.json", "{\"model\": ");
  CHECK_THAT(load(folder), Catch::Contains("tokenizer.json:1:11: invalid JSON: "));
}
