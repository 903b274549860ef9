// SPDX-License-Identifier: Apache-2.0
// tokenize and detokenize: the ids of the tokenizers package, a record a line, and one token file
// however many threads there are.
#include <catch2/catch.hpp>
#include <fstream>

#include "tests/tools/lab.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizers = TENON_SOURCE_DIR "/tests/reference/tokenizer/";

Result good(const Words& words, const std::string& input = "/dev/null") {
  Words shell = {"/bin/sh", "-c", "exec \"$@\" < " + input, "sh"};
  const Words program = tenon_words(words);
  shell.insert(shell.end(), program.begin(), program.end());
  const Result result = run(shell);
  INFO(result.err);
  REQUIRE(result.code == 0);
  return result;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

bool is_utf8(const std::string& bytes) {
  try {
    static_cast<void>(Json(bytes).dump());
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

// The cases of a reference tokenizer that a .jsonl can hold, and what stands around a text.
struct Cases {
  Json around;
  std::vector<Json> ids, decoded;
  std::string jsonl;

  explicit Cases(const std::string& name) {
    std::ifstream file(kTokenizers + name + "/cases.json");
    const Json json = Json::parse(file);
    around = json.at("around");
    for (const Json& example : json.at("cases")) {
      const std::string text = from_hex(example.at("hex"));
      if (!is_utf8(text)) continue;
      ids.push_back(example.at("ids"));
      decoded.push_back(example.at("decoded"));
      jsonl += Json{{"text", text}}.dump() + "\n";
    }
  }
};

std::vector<Json> json_lines(const std::string& text) {
  std::vector<Json> result;
  for (const std::string& line : lines(text)) result.push_back(Json::parse(line));
  return result;
}

TEST_CASE("tokenize --ids gives the reference's ids, detokenize its texts") {
  const std::string name = GENERATE("gpt2", "llama", "vocab_merges", "spm_bpe", "spm_unigram");
  INFO(name);
  const TempFolder folder;
  const Cases cases(name);
  REQUIRE(cases.ids.size() > 100);
  const std::string data = (folder / "d.jsonl").string(), model = kTokenizers + name;
  put_file(data, cases.jsonl);
  const Words words = {"tokenize", "--model", model, "--data", data, "--ids", "--format", "text"};
  Words bare = words;
  bare.push_back("--no-special");
  const std::string said = good(bare).out;
  CHECK(json_lines(said) == cases.ids);

  // What the tokenizer's own files put before a text is not put there twice.
  std::vector<Json> framed = cases.ids;
  for (Json& ids : framed) {
    if (cases.around.empty() || (!ids.empty() && ids[0] == cases.around[0])) continue;
    ids.insert(ids.begin(), cases.around.begin(), cases.around.end());
  }
  CHECK(json_lines(good(words).out) == framed);

  put_file(folder / "ids", said);
  const Result text = good({"detokenize", "--model", model}, (folder / "ids").string());
  CHECK(json_lines(text.out) == cases.decoded);
}

TEST_CASE("a .txt is one record, or one a line") {
  const Lab lab;
  lab.put("d.txt", "The fox <|endoftext|>\r\n\nsaw\xC3\xBC");
  const auto ids = [&](const Words& more) {
    Words words = {"tokenize", "--model", lab.model(), "--data", lab.at("d.txt"), "--ids"};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = good(words);
    CHECK(result.err == "special tokens in the data: <|endoftext|> x 1\n");
    lab.put("ids", result.out);
    return json_lines(good({"detokenize", "--model", lab.model()}, lab.at("ids")).out);
  };
  CHECK(ids({}) == std::vector<Json>{"The fox <|endoftext|>\r\n\nsaw\u00fc"});
  CHECK(ids({"--lines"}) == std::vector<Json>{"The fox <|endoftext|>", "", "saw\u00fc"});
}

TEST_CASE("a token file is the same for all threads, and data for finetune and evaluate") {
  const Lab lab;
  const auto write = [&](const std::string& out, const std::string& threads) {
    const Result result = good({"tokenize", "--model", lab.model(), "--data", lab.data(), "--out",
                                lab.at(out), "--threads", threads});
    CHECK(result.out.empty());
    return lab.get(out);
  };
  const std::string file = write("one.tokens", "1");
  CHECK(file == write("two.tokens", "2"));

  REQUIRE(tenon(lab.finetune()).code == 0);
  const Words losses = lab.metrics("loss");
  fs::remove_all(lab.out());
  const Result result = tenon(lab.finetune({"--data", lab.at("one.tokens")}));
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK_THAT(result.err, Catch::Contains("token file"));
  CHECK(lab.metrics("loss") == losses);
  const auto evaluate = [&](const std::string& data) {
    return Json::parse(good({"evaluate", "--model", lab.model(), "--data", data}).out).at("loss");
  };
  CHECK(evaluate(lab.at("one.tokens")) == evaluate(lab.data()));

  fs::remove_all(lab.out());
  lab.put("cut.tokens", file.substr(0, file.size() - 1));
  check_refused(lab, lab.finetune({"--data", lab.at("cut.tokens")}), {lab.at("cut.tokens")});
}

TEST_CASE("what tokenize refuses") {
  const Lab lab;
  const auto refused = [&](const Words& more, const Words& parts) {
    Words words = {"tokenize", "--model", lab.model()};
    words.insert(words.end(), more.begin(), more.end());
    check_refused(lab, words, parts);
  };
  refused({"--data", lab.data()}, {"--out FILE or --ids"});
  refused({"--data", lab.data(), "--ids", "--out", lab.at("t.tokens")}, {"--out FILE or --ids"});
  refused({"--data", lab.data(), "--out", lab.at("t.tokens"), "--no-special"}, {"--no-special"});
  refused({"--data", lab.at("none.txt"), "--ids"}, {lab.at("none.txt")});
  lab.put("empty.txt", "");
  refused({"--data", lab.at("empty.txt"), "--out", lab.at("t.tokens")}, {lab.at("empty.txt")});
}

TEST_CASE("what detokenize refuses is named by its line") {
  const Lab lab;
  for (const char* line : {"", "[1", "{}", "1", "[-1]", "[1.5]", "[\"a\"]", "[2147483648]"}) {
    INFO(line);
    lab.put("ids", std::string("[1]\n") + line + "\n");
    const Result result = run({"/bin/sh", "-c", "exec \"$0\" detokenize --model \"$1\" < \"$2\"",
                               TENON_PROGRAM, lab.model(), lab.at("ids")});
    CHECK(result.code == 2);
    REQUIRE(lines(result.err).size() == 1);
    CHECK_THAT(result.err, Catch::StartsWith("tenon: error: stdin, line 2"));
  }
}

}  // namespace
}  // namespace tenon::test
