// SPDX-License-Identifier: Apache-2.0
// Tokenizers of other kinds than GPT-2's: Llama 2's in both forms of tokenizer.json, steps of every
// sort, sentencepiece models.
#include <catch2/catch.hpp>
#include <random>

#include "core/file.h"
#include "tests/text/text_cases.h"
#include "text/data/document_tokens.h"
#include "text/data/sources.h"
#include "text/data/token_file.h"
#include "text/tokenizer/normalize.h"
#include "text/tokenizer/text_decoder.h"
#include "text/tokenizer/tokenizer.h"
#include "text/utf8.h"

using namespace tenon;
using namespace tenon::test;

namespace {

using Ids = std::vector<int32_t>;

std::string streamed(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  StreamDecoder stream(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = stream.push(id);
    CHECK(valid_utf8_prefix(piece) == piece.size());
    text += piece;
  }
  return text + stream.finish();
}

std::string chained(const std::vector<DecoderStep>& steps, const std::vector<std::string>& tokens) {
  const auto decoder = make_decoder_chain(
      steps, [&](int32_t i) { return std::string_view(tokens[static_cast<size_t>(i)]); });
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) decoder->push(static_cast<int32_t>(i), text);
  decoder->finish(text);
  return text;
}

// Loads a changed file as often as asked, and uses it where it loads. Any error is fine, as long as
// it is one.
void expect_no_harm(const std::string& file, const std::string& bytes) {
  TempFolder folder;
  put_file(folder / file, bytes);
  try {
    const auto tokenizer = Tokenizer::load(folder.path());
    Ids ids = tokenizer->encode("Mira keeps\u3000a lamp \U0001F642 <s>\n\xFF 12");
    ids.push_back(static_cast<int32_t>(tokenizer->vocabulary_size()));
    CHECK(streamed(*tokenizer, ids, false) == tokenizer->decode(ids));
  } catch (const Error& error) {
    CHECK(error.code() == Exit::kInput);
  }
}

// The ids of a text between what the tokenizer's files put around one.
Ids framed_ids(const Tokenizer& tokenizer, const std::string& text) {
  Document document;
  document.pieces.push_back({text});
  DocumentTokens tokens;
  tokenize_document(document, tokenizer, Framing::kPrompt, tokens);
  return tokens.ids;
}

}  // namespace

TEST_CASE("tokenizers of every kind give the ids and texts of their own libraries", "[tokenizer]") {
  const std::string name =
      GENERATE("llama", "metaspace", "words", "runs", "spelled", "spm_bpe", "spm_unigram");
  const auto tokenizer = reference_tokenizer(name);
  const std::vector<TokenizerCase> cases = reference_cases(name);
  REQUIRE(cases.size() > 200);
  for (const TokenizerCase& c : cases) {
    CAPTURE(name, c.text);
    const Ids ids = tokenizer->encode(c.text);
    CHECK(ids == c.ids);
    Ids plain;
    tokenizer->encode_plain(c.text, plain);
    CHECK(plain == c.plain);
    CHECK(tokenizer->decode(c.ids) == c.decoded);
    CHECK(streamed(*tokenizer, c.ids, false) == c.decoded);
    CHECK(streamed(*tokenizer, c.ids, true) == tokenizer->decode(c.ids, true));
  }
  const Ids around = parse_json_file(reference(name) / "cases.json").at("around");
  Ids framed = tokenizer->prefix();
  framed.insert(framed.end(), tokenizer->suffix().begin(), tokenizer->suffix().end());
  CHECK(framed == around);
}

TEST_CASE("what is put around a text is not put there twice", "[tokenizer]") {
  const auto llama = reference_tokenizer("llama");
  CHECK(llama->prefix() == Ids{1});
  CHECK(llama->suffix().empty());
  const Ids framed = framed_ids(*llama, "the lamp");
  CHECK(framed[0] == 1);
  CHECK(framed_ids(*llama, "<s>the lamp") == framed);
  const auto metaspace = reference_tokenizer("metaspace");
  CHECK(metaspace->prefix() == Ids{1});
  CHECK(metaspace->suffix() == Ids{2});
  CHECK(framed_ids(*metaspace, "<s>a</s>").back() == 2);
  CHECK(framed_ids(*metaspace, "<s>a</s>").size() == metaspace->encode("<s>a</s>").size());
}

TEST_CASE("add_bos_token and add_eos_token go before the post_processor", "[tokenizer]") {
  TempFolder folder;
  copy_files(reference("llama"), folder.path());
  const auto load = [&](const std::string& config) {
    put_file(folder / "tokenizer_config.json", config);
    return Tokenizer::load(folder.path());
  };
  CHECK(load(R"({"bos_token": "<s>"})")->prefix() == Ids{1});
  CHECK(load(R"({"bos_token": "<s>", "add_bos_token": false})")->prefix().empty());
  const auto both = load(
      R"({"bos_token": "</s>", "eos_token": "<s>", "add_bos_token": true, "add_eos_token": true})");
  CHECK(both->prefix() == Ids{2});
  CHECK(both->suffix() == Ids{1});
}

TEST_CASE("OPT's and GPT-2's files say whether a text begins with BOS", "[tokenizer]") {
  TempFolder folder;
  copy_files(reference("vocab_merges"), folder.path());
  CHECK(Tokenizer::load(folder.path())->prefix().empty());
  put_file(folder / "tokenizer_config.json",
           R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>",
               "add_bos_token": true, "pad_token": "[PAD]"})");
  const auto tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer->prefix() == Ids{0});
  CHECK(tokenizer->decode(framed_ids(*tokenizer, "a b")) == "<|endoftext|>a b");
  // A special token that the vocabulary lacks gets no id, which is told.
  CHECK(tokenizer->encode("[PAD]").size() > 1);
  CHECK(tokenizer->vocabulary_size() == 539);
  CHECK_THAT(tokenizer->note(), Catch::Contains("[PAD]"));
}

TEST_CASE("special tokens around a sentencepiece model", "[tokenizer]") {
  TempFolder folder;
  copy_files(reference("spm_bpe"), folder.path());
  const auto bare = Tokenizer::load(folder.path());
  CHECK(bare->prefix() == Ids{1});
  CHECK(bare->bos_id() == 1);
  CHECK(bare->eos_id() == 2);
  Ids plain;
  bare->encode_plain("<s>", plain);
  CHECK(plain.size() > 1);
  CHECK(bare->encode("<s>") == Ids{1});
  // A space of the tokenizer's own is put before the text, and in the older way behind special
  // tokens too.
  const Ids a = bare->encode("a"), inner = {bare->encode("ba").back()};
  CHECK(bare->decode(a) == "a");
  CHECK(bare->encode("</s>a") == Ids{2, inner[0]});
  put_file(folder / "tokenizer_config.json",
           R"({"legacy": true, "add_bos_token": false, "add_eos_token": true, "eos_token": "</s>",
               "added_tokens_decoder": {"420": {"content": "<end>", "special": true}}})");
  const auto older = Tokenizer::load(folder.path());
  Ids behind = {2};
  behind.insert(behind.end(), a.begin(), a.end());
  CHECK(older->encode("</s>a") == behind);
  CHECK(older->prefix().empty());
  CHECK(older->suffix() == Ids{2});
  CHECK(older->encode("a<end>").back() == 420);
  CHECK(older->decode(older->encode("a<end>a"), false) == "a<end> a");
  CHECK(older->decode(older->encode("a<end>a"), true) == "a a");
  CHECK(older->decode(Ids{421, -1, 1 << 30}).empty());
}

TEST_CASE("a text that goes on gets no space of the tokenizer's own", "[tokenizer]") {
  const std::string name = GENERATE("llama", "metaspace", "spm_bpe", "gpt2");
  CAPTURE(name);
  const auto tokenizer = reference_tokenizer(name);
  const std::string text = "Mira keeps the map. The fox sells  bread, near the river";
  const Ids whole = tokenizer->encode(text);
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] != ' ' || text[i - 1] == ' ' || text.substr(0, i).ends_with("keeps")) continue;
    Ids parts = tokenizer->encode(text.substr(0, i));
    tokenizer->encode_continued(text.substr(i), true, parts);
    CHECK(tokenizer->decode(parts) == text);
    if (tokenizer->safe_cut(std::string_view(text).substr(0, i + 1)) == i) CHECK(parts == whole);
  }
}

TEST_CASE("cut files give the ids of the whole for Llama's kinds", "[tokenizer]") {
  const std::string name = GENERATE("spm_bpe", "metaspace");
  TempFolder folder;
  copy_files(reference(name), folder.path());
  if (name == "metaspace") {  // without <mask>, which takes the spaces around it
    Json json = parse_json_file(folder / "tokenizer.json");
    json["added_tokens"].erase(3);
    put_file(folder / "tokenizer.json", json.dump());
  }
  const auto tokenizer = Tokenizer::load(folder.path());
  std::string text;
  for (const TokenizerCase& c : reference_cases("llama")) text += c.text + " ";
  put_file(folder / "data.txt", text);
  const auto tokens_of = [&](int64_t chunk) {
    const std::filesystem::path source = folder / "data.txt";
    const std::filesystem::path cache = folder / "cache.tok";
    std::filesystem::remove(cache);
    TokenizeOptions options;
    options.chunk_bytes = chunk;
    options.documents.skip_bad = true;  // much of it is no text
    bool made = false;
    const TokenFile file = build_or_open(cache, std::span(&source, 1), *tokenizer, options, &made);
    REQUIRE(made);
    return get_file(cache);
  };
  CHECK(tokenizer->safe_cut("a b c") == 3);
  CHECK(tokenizer->safe_cut("a</s> c") == 0);
  CHECK(tokens_of(50) == tokens_of(int64_t{1} << 30));
}

TEST_CASE("a decoder's steps, also in orders that no model has", "[tokenizer]") {
  using Step = DecoderStep;
  CHECK(chained({{.kind = Step::kJoin}}, {"a", "b"}) == "a b");
  const std::vector<Step> fused = {{.kind = Step::kFuse},
                                   {.kind = Step::kStrip, .content = " ", .left = 1, .right = 2}};
  CHECK(chained(fused, {" ", " a", " ", " ", " "}) == " a ");
  CHECK(chained(fused, {" a ", "b"}) == "a b");
  CHECK(chained({{.kind = Step::kStrip, .content = "x", .left = 1, .right = 1}},
                {"xxax", "x", "bx"}) == "xab");
  // A run of bytes is a text as a whole, or no byte of it is.
  const std::vector<Step> bytes = {{.kind = Step::kByteFallback}};
  CHECK(chained(bytes, {"<0xC3>", "<0xA9>", "a"}) == "\u00E9a");
  CHECK(chained(bytes, {"<0xC3>", "<0xA9>", "<0xC3>"}) == "\uFFFD\uFFFD\uFFFD");
  // What follows a fused token sees it as a whole.
  CHECK(chained({{.kind = Step::kFuse}, {.kind = Step::kReplace, .pattern = "ab", .content = "-"}},
                {"a", "ba", "b"}) == "--");
  CHECK(chained(
            {{.kind = Step::kFuse}, {.kind = Step::kReplaceRegex, .pattern = "^a", .content = ""}},
            {"a", "a"}) == "a");
  CHECK(byte_of_token("<0x0a>") == 10);
  CHECK(byte_of_token("<0x0G>") == -1);
}

TEST_CASE("patterns that match nothing replace nothing but a place", "[tokenizer]") {
  const auto replaced = [](const std::string& pattern, const std::string& text) {
    return Normalizer(
        {{.kind = NormalizerStep::kReplaceRegex, .pattern = pattern, .content = "-"}})(text);
  };
  CHECK(replaced("x*", "abxxcb") == "-a-b-c-b-");
  CHECK(replaced("^", "ab") == "-ab");
  CHECK(replaced("$", "ab") == "ab-");
  CHECK(replaced("^", "").empty());
  CHECK(replaced("b|", "\u00E9 b") == "-\u00E9- -");
  CHECK(lower_case("\u0130\u00C9\u1C89\U00010D50Ab") == "i\u0307\u00E9\u1C8A\U00010D70ab");
}

TEST_CASE("a damaged tokenizer file does no harm", "[tokenizer]") {
  const auto [folder, file] =
      GENERATE(table<std::string, std::string>({{"spm_bpe", "tokenizer.model"},
                                                {"spm_unigram", "tokenizer.model"},
                                                {"words", "tokenizer.json"}}));
  const std::string bytes = get_file(reference(folder) / file);
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) {  // every byte is a campaign of its own; here some of them
    expect_no_harm(file, bytes.substr(0, random() % bytes.size()));
    std::string flipped = bytes;
    flipped[random() % flipped.size()] ^= static_cast<char>(1 << random() % 8);
    expect_no_harm(file, flipped);
  }
}

TEST_CASE("models of another form are refused by name", "[tokenizer]") {
  TempFolder folder;
  const auto verdict = [&](const std::string& bytes) {
    put_file(folder / "tokenizer.model", bytes);
    return error_of([&] { Tokenizer::load(folder.path()); });
  };
  CHECK_THAT(verdict("IQ== 0\nIg== 1\n"), Catch::Contains("tiktoken ranks are not supported"));
  CHECK_THAT(verdict(""), Catch::Contains("expected a sentencepiece model, got no pieces"));
  CHECK_THAT(verdict("\x0A\x05"), Catch::Contains("byte 0: expected a complete protobuf field"));
  const std::string unknown("\x0A\x09\x0A\x05<unk>\x18\x02", 11), a("\x0A\x03\x0A\x01"
                                                                    "a",
                                                                    5);
  CHECK(verdict(unknown + a + std::string("\x12\x02\x18\x02\x1A\x00", 6)) == "no error");
  CHECK_THAT(verdict(unknown + a + std::string("\x12\x02\x18\x03", 4)),
             Catch::Contains("model type 3 is not supported"));
  CHECK_THAT(verdict(a), Catch::Contains("expected one piece of type unknown, got 0"));
  CHECK_THAT(verdict(unknown + a + a), Catch::Contains("pieces that differ, got \"a\" twice"));
  // A map of characters that would be followed out of its bounds.
  CHECK_THAT(verdict(unknown + a + std::string("\x1A\x08\x12\x06\x04\0\0\0\xFF\xFF", 10)),
             Catch::Contains("expected a precompiled map of characters"));
}
