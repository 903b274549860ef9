// SPDX-License-Identifier: Apache-2.0
// Where chat templates come from: the files, the field, the built-ins; and how they are written
// beside a model again.
#include "text/chat/template_source.h"

#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/chat/chat_template.h"
#include "text/chat/end_of_turn.h"

using namespace tenon;
using namespace tenon::test;

namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_of(const TemplateSource& source) {
  std::vector<std::string> names;
  for (const TemplateText& one : source.additional) names.push_back(one.name + "=" + one.text);
  return names;
}

}  // namespace

TEST_CASE("a template in files is the main one and those of a folder", "[chat]") {
  const TempFolder folder;
  CHECK(template_files(folder.path()).empty());
  CHECK_FALSE(model_template(folder.path()));
  fs::create_directories(folder / "additional_chat_templates");
  put_file(folder / "additional_chat_templates/tool_use.jinja", "T");
  put_file(folder / "additional_chat_templates/rag.jinja", "R");
  put_file(folder / "additional_chat_templates/notes.txt", "N");
  put_file(folder / "tokenizer_config.json", R"({"chat_template": "config"})");
  // They go with the main one, and are none without it.
  CHECK(model_template(folder.path())->main.text == "config");
  CHECK(model_template(folder.path())->in_config);

  put_file(folder / "chat_template.jinja", "M\r\n");
  const TemplateSource source = model_template(folder.path()).value();
  CHECK(source.main.text == "M\r\n");
  CHECK_FALSE(source.in_config);
  CHECK(names_of(source) == std::vector<std::string>{"rag=R", "tool_use=T"});
  CHECK(source.for_tools()->text == "T");
  CHECK((template_files(folder.path()) ==
         std::vector<fs::path>{folder / "chat_template.jinja",
                               folder / "additional_chat_templates/rag.jinja",
                               folder / "additional_chat_templates/tool_use.jinja"}));

  const TempFolder copy;
  write_template(source, copy.path());
  const TemplateSource again = model_template(copy.path()).value();
  CHECK(again.main.text == source.main.text);
  CHECK(names_of(again) == names_of(source));
  TemplateSource astray = source;
  astray.additional[0].name = "../astray";
  CHECK_THAT(error_of([&] { write_template(astray, copy.path()); }), Catch::StartsWith("2: "));
}

TEST_CASE("a template that asks for the day says so", "[chat]") {
  const TempFolder folder;
  put_file(folder / "chat_template.jinja", "{{ messages }}");
  CHECK_FALSE(model_template(folder.path())->asks_date());
  fs::create_directories(folder / "additional_chat_templates");
  put_file(folder / "additional_chat_templates/tool_use.jinja", "{{ strftime_now('%Y') }}");
  CHECK(model_template(folder.path())->asks_date());
  put_file(folder / "chat_template.jinja", "{{ strftime_now('%d') }}");
  CHECK(named_template(folder / "chat_template.jinja").asks_date());
  CHECK(named_template(folder / "chat_template.jinja").additional.empty());
}

TEST_CASE("a built-in template that is written into a folder writes the same there", "[chat]") {
  for (const char* special : {R"({"bos_token": "<b>", "eos_token": "<e>"})", R"({})"}) {
    const auto messages = nlohmann::ordered_json::parse(
        R"([{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}])");
    for (const std::string& name : ChatTemplate::names()) {
      INFO(name << special);
      const TempFolder bare;
      write_template(named_template(name), bare.path());
      put_file(bare / "tokenizer_config.json", special);
      const auto given = ChatTemplate::named(name, bare.path());
      CHECK(ChatTemplate::of_model(bare.path())->write(messages, false, nullptr) ==
            given->write(messages, false, nullptr));
    }
  }
}

TEST_CASE("special tokens come from the first folder that names them", "[chat]") {
  const TempFolder adapter, model;
  put_file(adapter / "chat_template.jinja", "{{ bos_token }}{{ eos_token }}");
  put_file(adapter / "tokenizer_config.json", R"({"eos_token": "<turn>"})");
  put_file(model / "tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>"})");
  const auto source = model_template(adapter.path()).value();
  const auto empty = nlohmann::ordered_json::array();
  CHECK(ChatTemplate::of(source, {adapter.path(), model.path()})->write(empty, false, nullptr) ==
        "<s><turn>");
}

TEST_CASE("the end of a turn is known by its text, and by its token where it has one", "[chat]") {
  const auto tokenizer = reference_tokenizer("gpt2");
  const TempFolder folder;
  const auto end = [&](const std::string& text) {
    return end_of_turn(*ChatTemplate::named(put_file(folder / "t", text), folder.path()),
                       *tokenizer);
  };
  const std::string loop = "{% for m in messages %}{{ m.role }}: {{ m.content }}";
  CHECK(end(loop + "<|endoftext|>\n{% endfor %}").text == "<|endoftext|>");
  CHECK(end(loop + "<|endoftext|>\n{% endfor %}").id == 0);
  CHECK(end(loop + " <|im_end|>\n{% endfor %}").text == "<|im_end|>");
  CHECK_FALSE(end(loop + "<|im_end|>\n{% endfor %}").id);
  CHECK(end(loop + "\n{% endfor %}").text.empty());
  CHECK(end("{{ raise_exception('no') }}").text.empty());
  CHECK(end("{{ messages | length }}").text.empty());
}
