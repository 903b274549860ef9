// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/tokenizer/tokenizer.h"

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
        "NFKD, Lowercase, Strip, StripAccents, Prepend, Replace, and a Sequence of them)");
  CHECK_THAT(refused("/pre_tokenizer", {{"type", "UnicodeScripts"}}),
             Catch::StartsWith("2: tokenizer.json: pre_tokenizer UnicodeScripts is not supported"));
  CHECK_THAT(refused("/decoder", {{"type", "WordPiece"}}),
             Catch::StartsWith("2: tokenizer.json: decoder WordPiece is not"));
  CHECK_THAT(refused("/post_processor", {{"type", "Other"}}),
             Catch::StartsWith("2: tokenizer.json: post_processor Other is not supported"));
  CHECK_THAT(refused("/model/continuing_subword_prefix", "##"),
             Catch::Contains("continuing_subword_prefix ## is not"));
  CHECK_THAT(refused("/pre_tokenizer",
                     Json::parse(R"({"type": "Sequence", "pretokenizers": [{"type": "Digits"},
                      {"type": "BertPreTokenizer"}]})")),
             Catch::Contains("pre_tokenizer BertPreTokenizer is not supported"));
}

TEST_CASE("a step whose fields are wrong is named", "[tokenizer]") {
  const auto broken = [](const char* pointer, const char* json) {
    return verdict([&](Json& file) { file[Json::json_pointer(pointer)] = Json::parse(json); });
  };
  const std::string around = "field \"post_processor.single\": expected a list of SpecialToken";
  for (const char* single : {"3", "[]", R"([{"Sequence": {"id": "B"}}])",
                             R"([{"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}])"}) {
    CHECK_THAT(broken("/post_processor", (R"({"type": "TemplateProcessing", "special_tokens": {},
                       "single": )" + std::string(single) +
                                          "}")
                                             .c_str()),
               Catch::Contains(around));
  }
  CHECK_THAT(broken("/post_processor", R"({"type": "TemplateProcessing", "single":
                    [{"SpecialToken": {"id": "<e>"}}, {"Sequence": {"id": "A"}}],
                    "special_tokens": {"<e>": {"ids": [6]}}})"),
             Catch::Contains("ids\": expected ids of the vocabulary"));
  CHECK_THAT(
      broken("/post_processor", R"({"type": "RobertaProcessing", "cls": ["<e>", 5], "sep": 5})"),
      Catch::Contains("sep\": expected a token of the vocabulary and its id"));
  CHECK_THAT(broken("/pre_tokenizer", R"({"type": "Metaspace", "replacement": "ab"})"),
             Catch::Contains("replacement\": expected one character"));
  CHECK_THAT(broken("/pre_tokenizer", R"({"type": "Metaspace", "prepend_scheme": "last"})"),
             Catch::Contains("prepend_scheme\": expected"));
  CHECK_THAT(
      broken("/normalizer", R"({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})"),
      Catch::Contains("field \"pattern\" of a Replace: expected a regular expression"));
  CHECK_THAT(broken("/decoder", R"({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})"),
             Catch::Contains("field \"pattern\" of a Replace: expected a regular expression"));
  CHECK_THAT(broken("/decoder", R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})"),
             Catch::Contains("start\": expected an integer"));
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
      Catch::EndsWith("expected a tokenizer (tokenizer.json, or vocab.json and merges.txt, or "
                      "tokenizer.model), got none"));
  put_file(folder / "tokenizer.model", "\n");  // the last that is looked for
  CHECK_THAT(load(folder), Catch::Contains("tokenizer.model: byte 0: expected"));
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
  put_file(folder / "tokenizer_config.json",
           R"({"added_tokens_decoder": {"x": {"content": "a"}}})");
  CHECK_THAT(load(folder),
             Catch::Contains("field \"added_tokens_decoder.x\": expected a token id as the key"));
  put_file(folder / "tokenizer.json", "{\"model\": ");
  CHECK_THAT(load(folder), Catch::Contains("tokenizer.json:1:11: invalid JSON: "));
}

TEST_CASE("steps that double a text again and again are refused", "[tokenizer]") {
  const Json once = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  const Json by_pattern = {{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", "aa"}};
  const auto of = [](const char* list, const Json& step, size_t count) {
    return Json{{"type", "Sequence"}, {list, std::vector<Json>(count, step)}};
  };
  const auto load = [](const TempFolder& folder, const char* field, const Json& steps) {
    Json json = small_tokenizer();
    json[field] = steps;
    put_file(folder / "tokenizer.json", json.dump());
    return Tokenizer::load(folder.path());
  };
  for (const Json& step : {once, by_pattern}) {
    TempFolder folder;
    const auto grows = load(folder, "normalizer", of("normalizers", step, 50));
    CHECK_THAT(error_of([&] { grows->encode("ba"); }),
               Catch::StartsWith("2: ") && Catch::Contains("field \"pattern\" of a Replace") &&
                   Catch::Contains("64 times"));
    CHECK(grows->encode("bc").size() == 2);
    CHECK(load(folder, "normalizer", of("normalizers", step, 6))->encode("ba").size() == 65);
    Json steps = of("decoders", step, 50);
    steps["decoders"].insert(steps["decoders"].begin(), Json{{"type", "Fuse"}});
    const auto speaks = load(folder, "decoder", steps);
    CHECK_THAT(error_of([&] {
                 speaks->decode(std::vector<int32_t>{1, 0});
               }),
               Catch::StartsWith("2: ") && Catch::Contains("64 times"));
    CHECK(speaks->decode(std::vector<int32_t>{1, 2}) == "bc");
  }
  // One step is enough where its content is long.
  TempFolder folder;
  const Json wide = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1 << 12, 'b')}};
  const auto wide_ends = load(folder, "normalizer", wide);
  CHECK(wide_ends->encode("a").size() == 1 << 12);
  CHECK_THAT(error_of([&] { wide_ends->encode(std::string(1 << 12, 'a')); }),
             Catch::Contains("64 times"));
  const Json before = {{"type", "Prepend"}, {"prepend", std::string(1 << 16, 'b')}};
  CHECK_THAT(
      error_of([&] { load(folder, "normalizer", of("normalizers", before, 40))->encode("a"); }),
      Catch::Contains("normalizer Prepend") && Catch::Contains("64 times"));
  CHECK_THAT(error_of([&] { load(folder, "normalizer", of("normalizers", once, 2000)); }),
             Catch::Contains("at most 1024 steps"));
}
