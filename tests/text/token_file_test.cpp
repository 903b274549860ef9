// SPDX-License-Identifier: Apache-2.0
#include "text/data/token_file.h"

#include <catch2/catch.hpp>
#include <thread>

#include "tests/text/text_cases.h"
#include "text/data/sources.h"
#include "text/tokenizer/split.h"

using namespace tenon;
using namespace tenon::test;

namespace {

std::vector<int32_t> ids_of(const TokenFile& file) {
  std::vector<int32_t> ids(static_cast<size_t>(file.tokens()));
  file.copy_ids(0, ids);
  return ids;
}

std::vector<int32_t> ids_of(const TokenFile& file, int64_t document) {
  std::vector<int32_t> ids(static_cast<size_t>(file.document(document).size()));
  file.copy_ids(file.document(document).begin, ids);
  return ids;
}

struct Build {
  TempFolder folder;
  std::unique_ptr<Tokenizer> tokenizer = reference_tokenizer("gpt2");
  bool made = false;

  TokenFile operator()(const std::string& name, const std::string& content,
                       const TokenizeOptions& options = {}) {
    return again({put_file(folder / name, content)}, options);
  }
  TokenFile again(const std::vector<std::filesystem::path>& sources,
                  const TokenizeOptions& options = {}) {
    return build_or_open(folder / "cache.tok", sources, *tokenizer, options, &made);
  }
  // The error, without the folder's name and the exit code for bad input.
  std::string error(const std::string& name, const std::string& content) {
    std::string message = error_of([&] { (*this)(name, content); });
    const std::string begin = "2: " + folder.path().string() + "/";
    CHECK(!std::filesystem::exists(folder / "cache.tok"));
    return message.starts_with(begin) ? message.substr(begin.size()) : message;
  }
};

// GPT-2's kind with a normalizer and added tokens of spaces alone, as GPT-NeoX has.
std::unique_ptr<Tokenizer> spaced_tokenizer() {
  TempFolder folder;
  Json json = parse_json_file(reference("gpt2") / "tokenizer.json");
  json["normalizer"] = {{"type", "NFC"}};
  for (int spaces = 2; spaces < 5; ++spaces) {
    json["added_tokens"].push_back(
        {{"id", 700 + spaces}, {"content", std::string(spaces, ' ')}, {"normalized", true}});
  }
  put_file(folder / "tokenizer.json", json.dump());
  return Tokenizer::load(folder.path());
}

// The same vocabulary behind another pattern.
std::unique_ptr<Tokenizer> patterned_tokenizer(const char* pattern) {
  TempFolder folder;
  Json json = parse_json_file(reference("gpt2") / "tokenizer.json");
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", pattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
  put_file(folder / "tokenizer.json", json.dump());
  return Tokenizer::load(folder.path());
}

std::unique_ptr<Tokenizer> tokenizer_named(const std::string& name) {
  if (name == "spaced") return spaced_tokenizer();
  if (name == "llama3") return patterned_tokenizer(kLlama3Pattern);
  if (name == "qwen2") return patterned_tokenizer(kQwen2Pattern);
  return reference_tokenizer(name);
}

}  // namespace

TEST_CASE("a text cut into chunks gives the ids of the whole", "[token_file]") {
  std::string text;
  for (const char* name : {"gpt2", "vocab_merges", "features"}) {
    for (const TokenizerCase& c : reference_cases(name))
      text += c.text + (c.text.size() % 3 ? "\n" : "");
  }
  const std::string name = GENERATE("gpt2", "vocab_merges", "features", "spaced", "llama3");
  const auto tokenizer = tokenizer_named(name);
  // The "features" tokenizer has tokens that take white space to their right, so it knows no safe
  // cut.
  CHECK((tokenizer->safe_cut(text) > 0) == (name != "features"));

  const std::vector<int32_t> whole = tokenizer->encode(text);
  TempFolder folder;
  const std::vector<std::filesystem::path> sources = {put_file(folder / "a.txt", text)};
  for (const int64_t chunk : {1, 3, 64, 1000, 1 << 20}) {
    CAPTURE(name, chunk);
    TokenizeOptions options;
    options.append_eos = false;
    options.chunk_bytes = chunk;
    options.documents.skip_bad = true;  // much of it is no text
    const auto cache = folder / std::to_string(chunk);
    CHECK(ids_of(build_or_open(cache, sources, *tokenizer, options)) == whole);
  }
}

TEST_CASE("every safe cut is safe", "[token_file]") {
  const std::string name = GENERATE("gpt2", "vocab_merges", "spaced", "llama3", "qwen2");
  const auto tokenizer = tokenizer_named(name);
  int64_t cuts = 0;
  for (const TokenizerCase& c : reference_cases("gpt2")) {
    const std::vector<int32_t> whole = tokenizer->encode(c.text);
    for (size_t end = c.text.size(); end > 0; --end) {
      const size_t cut = tokenizer->safe_cut(std::string_view(c.text).substr(0, end));
      if (cut == 0) break;
      CAPTURE(name, c.text, cut);
      std::vector<int32_t> parts = tokenizer->encode(std::string_view(c.text).substr(0, cut));
      tokenizer->encode(std::string_view(c.text).substr(cut), parts);
      CHECK(parts == whole);
      ++cuts;
    }
  }
  CHECK(cuts > 300);
}

TEST_CASE("threads that encode at the same time get the ids of one", "[token_file]") {
  const auto tokenizer = tokenizer_named(GENERATE("gpt2", "llama3", "features"));
  const std::vector<TokenizerCase> cases = reference_cases("gpt2");
  std::vector<std::vector<int32_t>> alone;
  for (const TokenizerCase& c : cases) alone.push_back(tokenizer->encode(c.text));
  std::vector<std::vector<std::vector<int32_t>>> got(4);
  {
    std::vector<std::jthread> threads;
    for (auto& ids : got) {
      threads.emplace_back([&] {
        for (const TokenizerCase& c : cases) ids.push_back(tokenizer->encode(c.text));
      });
    }
  }
  for (const auto& ids : got) CHECK(ids == alone);
}

TEST_CASE("a .txt is one document, or several with the end-of-text token between", "[token_file]") {
  Build build;
  const auto encode = [&](const std::string& text) { return build.tokenizer->encode(text); };
  const TokenFile one = build("a.txt", "\xEF\xBB\xBFthe map\nin 1984: at home!");
  CHECK(build.made);
  CHECK(one.documents() == 1);
  CHECK(ids_of(one) == encode("the map\nin 1984: at home!<|endoftext|>"));
  CHECK(one.scored_tokens() == one.tokens());
  CHECK(one.largest_id() < build.tokenizer->vocabulary_size());

  const TokenFile three = build("a.txt", "one<|endoftext|>two\n<|endoftext|><|endoftext|> three");
  CHECK(three.documents() == 4);  // the third is the end alone
  CHECK(ids_of(three, 0) == encode("one<|endoftext|>"));
  CHECK(ids_of(three, 1) == encode("two\n<|endoftext|>"));
  CHECK(ids_of(three, 2) == encode("<|endoftext|>"));
  CHECK(ids_of(three, 3) == encode(" three<|endoftext|>"));

  TokenizeOptions bare;
  bare.append_eos = false;
  CHECK(ids_of(build("a.txt", "one<|endoftext|>two", bare)) == encode("one<|endoftext|>two"));
}

TEST_CASE("a .jsonl has a document a line", "[token_file]") {
  Build build;
  const auto encode = [&](const std::string& text) { return build.tokenizer->encode(text); };
  const TokenFile file =
      build("a.jsonl",
            "\xEF\xBB\xBF{\"text\": \"the map\"}\r\n\r\n  \n"
            "{\"prompt\": \"where? \", \"completion\": \" at home\", \"id\": 7}\r\n"
            "{\"text\": \"\"}\n"
            "{\"text\": \"ends<|endoftext|>\"}\n"
            "{\"prompt\": \"\", \"completion\": \"\\u00e9\"}");
  REQUIRE(file.documents() == 4);
  CHECK(ids_of(file, 0) == encode("the map<|endoftext|>"));
  std::vector<int32_t> apart = encode("where? ");
  const auto prompt = static_cast<int64_t>(apart.size());
  for (const int32_t id : encode(" at home<|endoftext|>")) apart.push_back(id);
  CHECK(ids_of(file, 1) == apart);
  CHECK(ids_of(file, 2) == encode("ends<|endoftext|>"));
  CHECK(ids_of(file, 3) == encode("\u00e9<|endoftext|>"));

  CHECK(!file.document(0).sample);
  CHECK(file.document(1).sample);
  CHECK(!file.document(2).sample);
  CHECK(file.document(3).sample);
  const TokenSpan pair = file.document(1);
  for (int64_t i = 0; i < file.tokens(); ++i) {
    CHECK(file.scored(i) == !(i >= pair.begin && i < pair.begin + prompt));
  }
  CHECK(file.scored_tokens() == file.tokens() - prompt);
  CHECK(file.unscored_in({pair.begin + 1, file.tokens()}) == prompt - 1);
}

TEST_CASE("ids take four bytes where the vocabulary needs them", "[token_file]") {
  TempFolder folder;
  const std::vector<int32_t> ids = {0, 65535, 65536, 128255, 5};
  TokenFileWriter writer(folder / "t", {1, 2, 3}, 128256);
  writer.append(ids, true);
  writer.commit();
  const TokenFile file = TokenFile::open(folder / "t");
  CHECK(ids_of(file) == ids);
  CHECK(file.largest_id() == 128255);
  CHECK(file.documents() == 1);  // the last document ends by itself
  CHECK(file.key() == TokenFileKey{1, 2, 3});

  const std::vector<int32_t> least = {65536, 1};
  TokenFileWriter one_more(folder / "u", {}, 65537);
  one_more.append(least, true);
  one_more.commit();
  CHECK(ids_of(TokenFile::open(folder / "u")) == least);
}

TEST_CASE("a cache is used again for the same sources, tokenizer and options only",
          "[token_file]") {
  Build build;
  const auto first = put_file(build.folder / "a.txt", "the map"),
             second = put_file(build.folder / "b.txt", "a lamp");
  const std::vector<int32_t> ids = ids_of(build.again({first, second}));
  CHECK(build.made);
  CHECK(ids_of(build.again({first, second})) == ids);
  CHECK(!build.made);

  CHECK(build.again({second, first}).documents() == 2);  // another order
  CHECK(build.made);
  build.again({first, second});
  TokenizeOptions bare;
  bare.append_eos = false;
  build.again({first, second}, bare);
  CHECK(build.made);
  build.tokenizer = reference_tokenizer("vocab_merges");
  build.again({first, second}, bare);
  CHECK(build.made);
  using Change = void (*)(TokenizeOptions&);
  for (const Change change :
       {Change([](TokenizeOptions& o) { o.documents.format.append("text"); }),
        Change([](TokenizeOptions& o) {
          o.documents.columns = {"a", "b"};
        }),
        Change([](TokenizeOptions& o) { o.documents.system.append("x"); }),
        Change([](TokenizeOptions& o) { o.documents.skip_bad = true; }),
        Change([](TokenizeOptions& o) { o.lines = true; }),
        Change([](TokenizeOptions& o) { o.plain_people = true; }),
        Change([](TokenizeOptions& o) { o.template_fingerprint = 7; }),
        Change([](TokenizeOptions& o) { o.documents.train_on = TrainOn::kEverything; })}) {
    TokenizeOptions other = bare;
    change(other);
    build.again({first, second}, bare);
    build.again({first, second}, other);
    CHECK(build.made);
    build.again({first, second}, other);
    CHECK(!build.made);
  }
  build.again({first, second}, bare);
  put_file(first, "the mad");  // as long as before
  build.again({first, second}, bare);
  CHECK(build.made);
  build.again({first, second}, bare);
  CHECK(!build.made);
}

TEST_CASE("a digest is of tokens, documents and scores, and of nothing else", "[token_file]") {
  const TempFolder folder;
  const auto digest = [&](const std::string& name, const std::vector<int32_t>& ids, size_t prompt,
                          bool sample, uint64_t source = 1, int64_t vocabulary = 100) {
    TokenFileWriter writer(folder / name, {.sources = source}, vocabulary);
    writer.append(std::span(ids).first(prompt), false);
    writer.append(std::span(ids).subspan(prompt), true);
    writer.end_document(sample);
    writer.commit();
    return TokenFile::open(folder / name).digest();
  };
  const uint64_t first = digest("a", {1, 2, 3, 4}, 1, true);
  CHECK(digest("b", {1, 2, 3, 4}, 1, true, 2) == first);  // made from something else
  CHECK(digest("b", {1, 2, 3, 5}, 1, true) != first);
  CHECK(digest("b", {1, 2, 3, 4}, 2, true) != first);
  CHECK(digest("b", {1, 2, 3, 4}, 1, false) != first);
}

TEST_CASE("a document of a token file is found in what it was made from", "[token_file]") {
  Build build;
  const std::vector<std::filesystem::path> sources = {
      put_file(build.folder / "a.jsonl",
               "{\"text\": \"the map\"}\n\n{\"text\": \"\"}\n{\"text\": \"a lamp\"}\n"),
      put_file(build.folder / "b.txt", "one<|endoftext|>two"),
      put_file(build.folder / "c.jsonl", "{\"text\": \"end\"}\n")};
  TokenizeOptions bare;
  bare.append_eos = false;  // so that an empty text is no document
  const TokenFile file = build.again(sources, bare);
  std::vector<std::string> places;
  for (int64_t i = 0; i < file.documents(); ++i)
    places.push_back(document_place(sources, *build.tokenizer, bare, i)
                         .substr(build.folder.path().string().size() + 1));
  CHECK(places ==
        std::vector<std::string>{"a.jsonl:1", "a.jsonl:4", "b.txt", "b.txt", "c.jsonl:1"});
}

TEST_CASE("a damaged cache is found out and made anew", "[token_file]") {
  Build build;
  const auto source =
      put_file(build.folder / "a.jsonl",
               "{\"text\": \"the map\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
  const std::vector<int32_t> ids = ids_of(build.again({source}));
  const auto cache = build.folder / "cache.tok";
  const std::string good = get_file(cache);
  const auto refused = [&](const std::string& bytes) {
    put_file(cache, bytes);
    const std::string error = error_of([&] { TokenFile::open(cache); });
    return error.starts_with("2: " + cache.string()) && error.find(": expected ") != error.npos;
  };
  for (size_t length = 0; length < good.size(); ++length) CHECK(refused(good.substr(0, length)));
  CHECK(refused(good + '\0'));
  for (size_t byte = 0; byte < good.size(); ++byte) {
    if (byte >= 16 && byte < 40)
      continue;  // the key: not damage to open(), but another key to build_or_open()
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << byte % 8));
    CAPTURE(byte);
    CHECK(refused(bad));
    if (byte % 16 != 0) continue;
    CHECK(ids_of(build.again({source})) == ids);
    CHECK(build.made);
    CHECK(get_file(cache) == good);
  }
}

TEST_CASE("sources that cannot be read are errors with file, line and column", "[token_file]") {
  Build build;
  CHECK(build.error("a.txt", "") == "a.txt: expected text, got an empty file");
  CHECK(build.error("a.jsonl", "") == "a.jsonl: expected text, got an empty file");
  CHECK(build.error("a.jsonl", "\n \r\n") ==
        "a.jsonl: expected at least one document that is not empty, got none");
  CHECK(build.error("a.csv", "a,b") ==
        "a.csv: expected at least one document that is not empty, got none");
  const std::string kinds =
      ": expected a .txt, .jsonl, .json, .csv or .parquet file (or one of these as .gz or .zst), "
      "got ";
  CHECK(build.error("a.tsv", "a,b") == "a.tsv" + kinds + ".tsv");
  CHECK(build.error("data", "a,b") == "data" + kinds + "no extension");
  CHECK(build.error("a.txt", "\xFF\xFEh\0i\0") ==
        "a.txt: expected UTF-8 text, got UTF-16 (by its first bytes)");
  CHECK(build.error("a.jsonl", "\x1F\x8B...") ==
        "a.jsonl: expected UTF-8 text, got gzip (by its first bytes)");
  CHECK_THAT(build.error("none/a.txt", ""), Catch::StartsWith("none/a.txt: "));
  std::filesystem::create_directory(build.folder / "folder.txt");
  CHECK_THAT(error_of([&] { build.again({build.folder / "folder.txt"}); }),
             Catch::StartsWith("2: "));

  const std::string good = "{\"text\": \"a\"}\n";
  CHECK(build.error("a.jsonl", good + good + "{\"text\": \"a\" \"b\"}\n") ==
        "a.jsonl:3:16: invalid JSON: expected ',' or '}', got string literal; the "
        "record begins: {\"text\": \"a\" \"b\"}");
  CHECK_THAT(build.error("a.jsonl", good + "\n{\"text\": "),
             Catch::StartsWith("a.jsonl:3:10: invalid JSON: "));
  CHECK_THAT(build.error("a.jsonl", good + "{\"text\": \"\xFF\"}"),
             Catch::StartsWith("a.jsonl:2:11: invalid JSON: "));
  CHECK_THAT(build.error("a.jsonl", good + "{\"text\": \"\\ud800\"}"),
             Catch::StartsWith("a.jsonl:2:"));
  CHECK_THAT(build.error("a.jsonl", std::string("{\"text\": \"\0\"}", 13)),
             Catch::StartsWith("a.jsonl:1:11: invalid JSON: "));
  CHECK_THAT(build.error("a.jsonl", good + std::string(100'000, '[')),
             Catch::StartsWith("a.jsonl:2:257: "));
  CHECK(build.error("a.jsonl", good + "[1]") ==
        "a.jsonl:2: expected a JSON object, got a list; the record begins: [1]");
  const std::string expected =
      "expected the fields text, or prompt and completion, or instruction and output, or messages, "
      "or conversations, or question and response, or question and answer (--columns names any "
      "two); found: ";
  const auto unknown = [&](const std::string& record, const std::string& found) {
    CHECK(build.error("a.jsonl", good + record) ==
          "a.jsonl:2: " + expected + found + "; the record begins: " + record);
  };
  unknown("{\"instruction\": \"a\", \"b\": \"b\"}", "\"instruction\", \"b\"");
  unknown("{\"text\": 3}", "\"text\" (not a string)");
  unknown("{\"prompt\": \"a\"}", "\"prompt\"");
  unknown("{}", "none");
  CHECK(build.error("a.jsonl", "{\"text\": \"\", \"prompt\": \"\", \"completion\": \"\"}") ==
        "a.jsonl:1: expected a record of one shape, got fields of several: --format must say which "
        "of text, prompt-completion; the record begins: {\"text\": \"\", \"prompt\": \"\", "
        "\"completion\": \"\"}");
  CHECK_THAT(build.error("a.jsonl", "{\"\\u001b[31m\\n\": 1}"),
             Catch::Contains("found: \"\\x1b[31m\\n\" (not a string); "));
}
