// SPDX-License-Identifier: Apache-2.0
// Special and added tokens from the files beside a vocabulary, and from the tokenizer's class.
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/tokenizer/special_tokens.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_files.h"

using namespace tenon;
using namespace tenon::test;

namespace {

using Ids = std::vector<int32_t>;

// Each letter of "a".."e" and of the names is a token; ids in this order.
void put_vocabulary(const TempFolder& folder, const std::vector<std::string>& more = {}) {
  Json vocabulary = Json::object();
  for (const char c : std::string_view("abcdefghijklmnopqrstuvwxyz<>|/_[]"))
    vocabulary[std::string(1, c)] = vocabulary.size();
  for (const std::string& token : more) vocabulary[token] = vocabulary.size();
  put_file(folder / "vocab.json", vocabulary.dump());
  put_file(folder / "merges.txt", "#version: 0.2\n");
}

int64_t size_of(const TempFolder& folder, const std::string& text) {
  return static_cast<int64_t>(Tokenizer::load(folder.path())->encode(text).size());
}

std::string text_of(const TempFolder& folder, const std::string& name) {
  for (const auto& [each, text] : special_token_texts(folder.path())) {
    if (each == name) return text;
  }
  return "none";
}

}  // namespace

TEST_CASE("added_tokens.json gives tokens their ids", "[special_tokens]") {
  TempFolder folder;
  put_vocabulary(folder);
  put_file(folder / "added_tokens.json", R"({"<|b|>": 41, "<|a|>": 40, "<|c|>": 50})");
  put_file(folder / "special_tokens_map.json", R"({"eos_token": "<|b|>"})");
  const auto t = Tokenizer::load(folder.path());
  CHECK(t->encode("<|a|><|b|><|c|>") == Ids{40, 41, 50});
  CHECK(t->is_special(41));
  CHECK_FALSE(t->is_special(40));
  CHECK(t->is_added(40));
  CHECK(t->eos_id() == 41);
  CHECK(t->note().empty());
}

TEST_CASE("added_tokens.json is read beside tokenizer.model and tokenizer.json",
          "[special_tokens]") {
  const std::string name = GENERATE("spm_bpe", "llama");
  TempFolder folder;
  copy_files(reference(name), folder.path());
  const auto bare = Tokenizer::load(folder.path());
  const auto size = static_cast<int32_t>(bare->vocabulary_size());
  const int32_t begin = bare->encode("<s>").at(0);
  const Json listed = {{"<s>", begin}, {"<|turn|>", size + 1}, {"<|over|>", size + 5}};
  put_file(folder / "added_tokens.json", listed.dump());
  put_file(folder / "tokenizer_config.json",
           R"({"eos_token": "<|over|>", "tokenizer_class": "LlamaTokenizer"})");
  const auto t = Tokenizer::load(folder.path());
  CAPTURE(name);
  CHECK(t->encode("<|turn|><|over|><s>") == Ids{size + 1, size + 5, begin});
  CHECK(t->eos_id() == size + 5);
  CHECK(t->is_special(size + 5));
  CHECK_FALSE(t->is_special(size + 1));
  CHECK(t->is_special(begin));
  CHECK(t->fingerprint() != bare->fingerprint());
  CHECK(t->decode(Ids{size + 1}, true) == "<|turn|>");
  // Two files that disagree about an id are an error.
  put_file(folder / "added_tokens.json", R"({"<s>": 2000})");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()),
                    Catch::Contains("added_tokens.json") && Catch::Contains("<s>"));
}

TEST_CASE("tokenizer_config.json's list stands for the other files", "[special_tokens]") {
  TempFolder folder;
  put_vocabulary(folder);
  put_file(folder / "added_tokens.json", R"({"<|a|>": 60})");
  put_file(folder / "special_tokens_map.json", R"({"eos_token": "<|a|>"})");
  put_file(folder / "tokenizer_config.json",
           R"({"added_tokens_decoder": {"70": {"content": "<|b|>", "special": true},
                                        "71": {"content": "<|c|>"}},
               "eos_token": "<|b|>"})");
  const auto t = Tokenizer::load(folder.path());
  CHECK(t->encode("<|b|><|c|>") == Ids{70, 71});
  CHECK(t->eos_id() == 70);
  CHECK(t->encode("<|a|>").size() == 5);
  CHECK_FALSE(t->is_special(71));
  // Without the list special_tokens_map.json goes before tokenizer_config.json.
  put_file(folder / "tokenizer_config.json", R"({"eos_token": "<|b|>"})");
  CHECK(Tokenizer::load(folder.path())->eos_id() == 60);
}

TEST_CASE("no token gets an id that no file gives it", "[special_tokens]") {
  TempFolder folder;
  put_vocabulary(folder, {"<pad>"});
  put_file(folder / "tokenizer_config.json",
           R"({"tokenizer_class": "GPT2Tokenizer", "pad_token": "<pad>", "sep_token": "[sep]",
               "additional_special_tokens": ["<|x|>", "<|y|>"]})");
  const auto t = Tokenizer::load(folder.path());
  CHECK(t->encode("<pad>") == Ids{33});
  CHECK(t->encode("[sep]").size() == 5);
  CHECK(t->vocabulary_size() == 34);
  CHECK_THAT(t->note(), Catch::Contains("\"[sep]\"") && Catch::Contains("2 others"));
  // The class's own default that the vocabulary lacks is no news.
  CHECK_THAT(t->note(), !Catch::Contains("endoftext"));
}

TEST_CASE("what is special is what files and class name, not what looks so", "[special_tokens]") {
  TempFolder folder;
  put_vocabulary(folder, {"</s>", "<pad>", "<|endoftext|>"});
  CHECK(size_of(folder, "<|endoftext|>") == 1);  // vocab.json and merges.txt are GPT2Tokenizer's
  CHECK(size_of(folder, "</s>") == 4);
  CHECK(text_of(folder, "eos_token") == "<|endoftext|>");
  CHECK(text_of(folder, "pad_token") == "none");
  put_file(folder / "tokenizer_config.json",
           R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "eos_token": "</s>",
               "unk_token": {"content": "</s>", "normalized": true}, "pad_token": "<pad>"})");
  CHECK(size_of(folder, "<|endoftext|>") == 13);
  CHECK(size_of(folder, "a</s>b<pad>") == 4);
  CHECK(Tokenizer::load(folder.path())->eos_id() == 33);
}

TEST_CASE("templates see the tokens of files, class or tokenizer", "[special_tokens]") {
  TempFolder folder;
  copy_files(reference("llama"), folder.path());
  CHECK(text_of(folder, "pad_token") == "none");
  const auto set = [&](const std::string& config) {
    put_file(folder / "tokenizer_config.json", config);
  };
  set(R"({"tokenizer_class": "LlamaTokenizerFast"})");
  CHECK(text_of(folder, "bos_token") == "<s>");
  CHECK(text_of(folder, "eos_token") == "</s>");
  CHECK(text_of(folder, "unk_token") == "<unk>");
  set(R"({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"})");
  CHECK(text_of(folder, "bos_token") == "none");
  CHECK(text_of(folder, "eos_token") == "<|im_end|>");
  CHECK(text_of(folder, "pad_token") == "<|endoftext|>");
  set(R"({"tokenizer_class": "LlamaTokenizer", "bos_token": null})");
  CHECK(text_of(folder, "bos_token") == "none");
  set(R"({"tokenizer_class": "PreTrainedTokenizerFast"})");
  put_file(folder / "config.json", R"({"model_type": "llama", "eos_token_id": 2})");
  CHECK(text_of(folder, "eos_token") == "</s>");
  put_file(folder / "config.json", R"({"model_type": "gpt_neox"})");
  set("{}");
  CHECK(text_of(folder, "pad_token") == "<|padding|>");
}

TEST_CASE("the files of a tokenizer are those that are there", "[special_tokens]") {
  TempFolder folder;
  CHECK(tokenizer_files(folder.path()).empty());
  for (const char* name : {"merges.txt", "added_tokens.json", "config.json", "tokenizer.json"})
    put_file(folder / name, "{}");
  std::vector<std::string> names;
  for (const auto& path : tokenizer_files(folder.path())) names.push_back(path.filename().string());
  CHECK(names == std::vector<std::string>{"tokenizer.json", "merges.txt", "added_tokens.json"});
}
