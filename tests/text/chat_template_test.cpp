// SPDX-License-Identifier: Apache-2.0
// Chat templates write what transformers writes: golden outputs of make_chat_cases.py.
#include "text/chat/chat_template.h"

#include <catch2/catch.hpp>
#include <ctime>
#include <fstream>
#include <functional>
#include <iomanip>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "tests/core/temp_folder.h"
#include "text/jinja/template.h"

using namespace tenon;
using nlohmann::ordered_json;
using test::TempFolder;

namespace {

const std::filesystem::path kChat =
    std::filesystem::path(TENON_SOURCE_DIR) / "tests/reference/chat";

const ordered_json& cases() {
  static const ordered_json all = ordered_json::parse(std::ifstream(kChat / "cases.json"));
  return all;
}

// A model folder with this template; special tokens as the cases have them.
void write_model(const TempFolder& folder, const std::string& source) {
  write_text_atomic(folder.path() / "chat_template.jinja", source);
  write_text_atomic(folder.path() / "tokenizer_config.json", cases().at("tokens").dump());
}

std::shared_ptr<const ChatTemplate> chat_of(const std::string& source) {
  const TempFolder folder;
  write_model(folder, source);
  return ChatTemplate::of_model(folder.path(), cases().at("now"));
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.code() == Exit::kInput);
    return error.what();
  }
  FAIL("no error");
  return {};
}

ordered_json conversation(std::initializer_list<std::pair<const char*, const char*>> turns) {
  ordered_json messages = ordered_json::array();
  for (const auto& [role, content] : turns) {
    messages.push_back({{"role", role}, {"content", content}});
  }
  return messages;
}

std::string spanned(const WrittenChat& chat) {
  std::string marked;
  size_t at = 0;
  for (const ChatSpan& span : chat.turns) {
    marked.append(chat.text, at, span.begin - at).append("[");
    marked.append(chat.text, span.begin, span.end - span.begin).append("]");
    at = span.end;
  }
  return marked.append(chat.text, at);
}

const ordered_json kFour =
    conversation({{"user", "U1"}, {"assistant", "A1"}, {"user", "U2"}, {"assistant", "A2"}});

}  // namespace

TEST_CASE("templates write what transformers writes", "[chat]") {
  for (const ordered_json& one : cases().at("templates")) {
    const std::string name = one.at("template");
    INFO(name << ", " << one.at("conversation") << ", prompt " << one.at("prompt"));
    const ordered_json& given = cases().at("conversations").at(one.at("conversation"));
    const auto chat = chat_of(read_text(kChat / "templates" / name, 1 << 20));
    const auto write = [&] {
      return chat->write(given.at("messages"), one.at("prompt"), given.at("extra"));
    };
    if (one.contains("error")) {
      CHECK_THROWS_AS(write(), Error);
      continue;
    }
    CHECK(write() == one.at("text").get<std::string>());
    if (!one.contains("spans") || one.at("prompt")) continue;
    const WrittenChat written = chat->write_with_spans(given.at("messages"), given.at("extra"));
    ordered_json spans = ordered_json::array();
    for (const ChatSpan& span : written.turns) spans.push_back({span.begin, span.end});
    CHECK(spans == one.at("spans"));
  }
}

TEST_CASE("pieces of templates give what Jinja2 gives", "[chat]") {
  jinja::Template::Variables variables;
  for (const auto& [name, value] : cases().at("variables").items()) {
    variables.push_back({name, &value});
  }
  std::tm now{};
  std::istringstream(cases().at("now").get<std::string>()) >>
      std::get_time(&now, "%Y-%m-%dT%H:%M:%S");
  timegm(&now);
  for (const ordered_json& one : cases().at("pieces")) {
    const std::string source = one.at("source");
    INFO(source);
    const auto write = [&] {
      return jinja::Template::parse(source, "piece").write(variables, now).text;
    };
    if (one.contains("error")) {
      CHECK_THROWS_AS(write(), Error);
    } else {
      CHECK(write() == one.at("text").get<std::string>());
    }
  }
}

TEST_CASE("what the assistant says in the templates that are known by name", "[chat]") {
  const TempFolder none;
  const auto marked = [&](const std::string& name) {
    return spanned(ChatTemplate::named(name, none.path())->write_with_spans(kFour, nullptr));
  };
  CHECK(marked("chatml") ==
        "<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n[A1<|im_end|>\n]"
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n[A2<|im_end|>\n]");
  CHECK(marked("llama2") == "<s>[INST] U1 [/INST][ A1 </s>]<s>[INST] U2 [/INST][ A2 </s>]");
  CHECK(marked("llama3") ==
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[A1<|eot_id|>]"
        "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n[A2<|eot_id|>]");
  CHECK(marked("mistral") == "<s>[INST] U1 [/INST][ A1</s>][INST] U2 [/INST][ A2</s>]");
  CHECK(marked("zephyr") ==
        "<|user|>\nU1</s>\n<|assistant|>\n[A1</s>\n]<|user|>\nU2</s>\n<|assistant|>\n[A2</s>\n]");
  CHECK(marked("smollm2") ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n[A1<|im_end|>\n]"
        "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n[A2<|im_end|>\n]");
  CHECK(marked("vicuna").ends_with("USER: U1 ASSISTANT: [A1</s>]USER: U2 ASSISTANT: [A2</s>]"));
  CHECK(marked("plain") == "U1\n[A1]U2\n[A2]");
  CHECK(marked("alpaca") ==
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nU1\n\n### Response:\n[A1]\n\n"
        "### Instruction:\nU2\n\n### Response:\n[A2]");
}

TEST_CASE("the template and the special tokens of a model folder are found", "[chat]") {
  const TempFolder folder;
  CHECK(ChatTemplate::of_model(folder.path()) == nullptr);
  const auto config = [&](const std::string& text) {
    write_text_atomic(folder.path() / "tokenizer_config.json", text);
  };
  config(R"({"bos_token": "<b>"})");
  CHECK(ChatTemplate::of_model(folder.path()) == nullptr);

  config(
      R"({"bos_token": {"content": "<b>"}, "eos_token": null, "chat_template": "{{ bos_token }}{{ eos_token }}{{ messages }}"})");
  write_text_atomic(folder.path() / "special_tokens_map.json",
                    R"({"bos_token": "<other>", "eos_token": "<e>"})");
  const auto empty = ordered_json::array();
  CHECK(ChatTemplate::of_model(folder.path())->write(empty, false, nullptr) ==
        "<other><e>[]");  // as transformers reads them

  config(R"({"chat_template": [{"name": "tool_use", "template": "T{{ tools|length }}"},
                               {"name": "rag", "template": "{% never parsed"},
                               {"name": "default", "template": "D{{ x }}"}]})");
  const auto two = ChatTemplate::of_model(folder.path());
  CHECK(two->write(empty, false, {{"x", 1}}) == "D1");
  CHECK(two->write(empty, false, {{"tools", {1, 2}}}) == "T2");

  config(R"({"chat_template": [{"name": "rag", "template": ""}]})");
  CHECK(error_of([&] { ChatTemplate::of_model(folder.path()); }).find("\"default\"") !=
        std::string::npos);
  config(R"({"chat_template": "\n\n{% if %}"})");
  CHECK(error_of([&] {
          ChatTemplate::of_model(folder.path());
        }).find("tokenizer_config.json: chat_template:3: expected an expression") !=
        std::string::npos);

  write_text_atomic(folder.path() / "chat_template.jinja", "file wins");
  CHECK(ChatTemplate::of_model(folder.path())->write(empty, false, nullptr) == "file wins");
}

TEST_CASE("templates are found by name, or are files", "[chat]") {
  const TempFolder folder;
  const auto file = folder.path() / "my.jinja";
  write_text_atomic(file, "{{ bos_token }}|{{ strftime_now('%d %b %Y') }}");
  write_text_atomic(folder.path() / "tokenizer_config.json", R"({"bos_token": "<b>"})");
  const auto empty = ordered_json::array();
  CHECK(ChatTemplate::named(file, folder.path(), "2024-07-26")->write(empty, false, nullptr) ==
        "<b>|26 Jul 2024");
  CHECK(ChatTemplate::named(file, folder.path(), "2024-07-26T10:20:30")->source() == file);
  for (const std::string& name : ChatTemplate::names()) {
    CHECK(ChatTemplate::named(name, folder.path())->source() == name);
  }
  CHECK(error_of([&] {
          ChatTemplate::named("chatlm", folder.path());
        }).find("did you mean chatml?") != std::string::npos);
  for (const char* date : {"today", "2024-13-01", "2024-02-30", "2024-07-26T25:00:00", "2024-07",
                           "2024-07-26x", "2024-07-26T10:20"}) {
    INFO(date);
    CHECK(error_of([&] {
            ChatTemplate::named("chatml", folder.path(), date);
          }).find("YYYY-MM-DD") != std::string::npos);
  }
}

TEST_CASE("keys keep the order in which they came", "[chat]") {
  const auto chat = chat_of("{{ messages[0]|tojson }}{{ tools|tojson }}");
  const auto messages =
      ordered_json::parse(R"([{"role": "user", "content": "x", "a": {"z": 1, "b": 2}}])");
  CHECK(chat->write(messages, false,
                    ordered_json::parse(R"({"tools": {"y": [1.0, 1e22], "a": null}})")) ==
        R"({"role": "user", "content": "x", "a": {"z": 1, "b": 2}}{"y": [1.0, 1e+22], "a": null})");
}
