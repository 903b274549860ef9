// SPDX-License-Identifier: Apache-2.0
// What lies beside the weights of a result: copies byte for byte, the template and end of turn that
// it was trained with, and its card.
#include "train/model_files.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "tests/core/temp_folder.h"
#include "train/model_card.h"

namespace tenon::test {
namespace {

namespace fs = std::filesystem;

// A base with every file that counts, and some that do not.
class Base : public TempFolder {
 public:
  Base() {
    fs::create_directories(*this / "additional_chat_templates");
    for (const char* name :
         {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model",
          "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
          "additional_chat_templates/tool_use.jinja", "model.safetensors", "notes.txt"})
      put(name, std::string("odd\r\n\0bytes of ", 15) + name);
    put("config.json", "{ \"eos_token_id\" :  2, \"pad_token_id\": 0}\r\n");
    put("tokenizer_config.json", "{ \"chat_template\" :  \"old\"}");
    put("generation_config.json", "{\"top_k\":  5, \"eos_token_id\": [2]}");
    put("README.md", "---\nlicense: 'mit'\n---\n# Base\n");
  }
  void put(const std::string& name, std::string_view bytes) const { put_file(*this / name, bytes); }
};

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(fs::relative(entry.path(), folder).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

using Names = std::vector<std::string>;
const Names kTokenizer = {"added_tokens.json", "merges.txt",      "special_tokens_map.json",
                          "tokenizer.json",    "tokenizer.model", "tokenizer_config.json",
                          "vocab.json"};

Names with(Names names, const Names& more) {
  names.insert(names.end(), more.begin(), more.end());
  std::sort(names.begin(), names.end());
  return names;
}

Json generation(const fs::path& folder) {
  return parse_json_file(folder / "generation_config.json");
}

}  // namespace

TEST_CASE("a model's files are copied byte for byte, those of its templates too", "[model_files]") {
  const Base base;
  const TempFolder to;
  write_model_files(base.path(), {.chat = model_template(base.path())}, to / "model");
  const Names expected =
      with(kTokenizer, {"config.json", "generation_config.json", "chat_template.jinja",
                        "additional_chat_templates/tool_use.jinja"});
  CHECK(files_in(to / "model") == expected);
  for (const std::string& name : expected) {
    INFO(name);
    CHECK(get_file(to / "model" / name) == get_file(base / name));
  }
  // Whether or not conversations are written.
  write_model_files(base.path(), {}, to / "plain");
  CHECK(files_in(to / "plain") == expected);
  write_adapter_files(base.path(), {}, to / "adapter");
  CHECK(files_in(to / "adapter") ==
        with(kTokenizer, {"chat_template.jinja", "additional_chat_templates/tool_use.jinja"}));
}

TEST_CASE("a template that was given takes the place of the base's", "[model_files]") {
  const Base base;
  const TempFolder to;
  const Manner manner{.chat = named_template("chatml"), .given = true, .end_of_turn = 7};
  write_model_files(base.path(), manner, to / "model");
  write_adapter_files(base.path(), manner, to / "adapter");
  const Names more = {"chat_template.jinja", "generation_config.json"};
  CHECK(files_in(to / "model") == with(with(kTokenizer, more), {"config.json"}));
  CHECK(files_in(to / "adapter") == with(kTokenizer, more));
  for (const char* result : {"model", "adapter"}) {
    CHECK(get_file(to / result / "chat_template.jinja") == named_template("chatml").main.text);
    const Json config = parse_json_file(to / result / "tokenizer_config.json");
    CHECK(config.at("chat_template") == named_template("chatml").main.text);
    CHECK(generation(to / result) ==
          Json{{"top_k", 5}, {"eos_token_id", {2, 7}}, {"pad_token_id", 0}});
  }
}

TEST_CASE("the end of turn joins what ended a text before", "[model_files]") {
  const Base base;
  const TempFolder to;
  const auto made = [&](int32_t end) {
    write_adapter_files(base.path(), {.end_of_turn = end}, to / "a");
    return generation(to / "a");
  };
  // What is said already stays as it is written.
  CHECK(made(2).at("eos_token_id") == Json::parse("[2]"));
  CHECK(get_file(to / "a/generation_config.json") == get_file(base / "generation_config.json"));
  base.put("generation_config.json", "{\"eos_token_id\": 5}");
  CHECK(made(7).at("eos_token_id") == Json::parse("[5, 7]"));
  base.put("generation_config.json", "{}");
  CHECK(made(7).at("eos_token_id") == Json::parse("[2, 7]"));  // config.json's
  fs::remove(base / "generation_config.json");
  CHECK(made(7) == Json::parse(R"({"eos_token_id": [2, 7], "pad_token_id": 0})"));
  base.put("config.json", "{}");
  CHECK(made(7) == Json::parse(R"({"eos_token_id": [7]})"));
}

TEST_CASE("a card has the header that others read", "[model_files]") {
  const Base base;
  const TempFolder to;
  ModelCard card{.base = base.path().string(),
                 .chat = true,
                 .tags = {"lora", "tenon"},
                 .summary = "A sentence.",
                 .figures = {{"steps", "12"}}};
  write_model_card(card, to.path());
  const std::string text = get_file(to / "README.md");
  CHECK(text.starts_with("---\nbase_model: \"" + base.path().string() +
                         "\"\nlibrary_name: peft\nlicense: \"mit\"\npipeline_tag: "
                         "text-generation\ntags:\n- lora\n- tenon\n---\n"));
  for (const char* part : {"A sentence.", "| steps | 12 |", "--chat", "PeftModel", "apply_chat"})
    CHECK_THAT(text, Catch::Contains(part));
  card.adapter = card.chat = false;
  card.base = "a \"quoted\": base";
  write_model_card(card, to.path());
  CHECK_THAT(get_file(to / "README.md"),
             Catch::StartsWith("---\nbase_model: \"a \\\"quoted\\\": base\"\nlibrary_name: "
                               "transformers\npipeline_tag") &&
                 !Catch::Contains("PeftModel") && !Catch::Contains("apply_chat"));
  base.put("README.md", "no header\nlicense: mit\n");
  CHECK(stated_license(base.path()).empty());
  base.put("README.md", "---\ntags: x\n---\nlicense: mit\n");
  CHECK(stated_license(base.path()).empty());
}

}  // namespace tenon::test
