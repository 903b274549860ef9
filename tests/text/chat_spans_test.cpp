// SPDX-License-Identifier: Apache-2.0
// What the assistant says, and what people wrote, read off a written conversation.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <random>
#include <regex>

#include "core/error.h"
#include "core/file.h"
#include "tests/core/temp_folder.h"
#include "tests/text/tagged_templates.h"
#include "text/chat/chat_template.h"

using namespace tenon;
using nlohmann::ordered_json;
using test::TempFolder;

namespace {

std::shared_ptr<const ChatTemplate> chat_of(std::string_view source) {
  const TempFolder folder;
  write_text_atomic(folder.path() / "chat_template.jinja", std::string(source));
  write_text_atomic(folder.path() / "tokenizer_config.json",
                    R"({"bos_token": "<s>", "eos_token": "</s>"})");
  return ChatTemplate::of_model(folder.path(), "2024-07-26");
}

using Turns = std::vector<std::pair<std::string, std::string>>;

ordered_json conversation(const Turns& turns) {
  ordered_json messages = ordered_json::array();
  for (const auto& [role, content] : turns) {
    messages.push_back({{"role", role}, {"content", content}});
  }
  return messages;
}

// The text with each span in brackets, behind the number of its message.
std::string marked(const WrittenChat& chat) {
  std::string all;
  size_t at = 0;
  for (const ChatSpan& span : chat.turns) {
    all.append(chat.text, at, span.begin - at).append(std::to_string(span.turn)).append("[[");
    all.append(chat.text, span.begin, span.end - span.begin).append("]]");
    at = span.end;
  }
  return all.append(chat.text, at);
}
std::string marked(std::string_view source, const ordered_json& messages,
                   const ordered_json& extra = nullptr) {
  return marked(chat_of(source)->write_with_spans(messages, extra));
}

// Line ends at the end of what is scored may be scored or not.
std::string without_line_ends(const std::string& text) {
  return std::regex_replace(text, std::regex("(\n+)\\]\\]"), "]]$1");
}

// The same template without its tags: comments trim the space around them as they do.
std::string untagged(std::string_view source) {
  return std::regex_replace(std::string(source),
                            std::regex(R"(\{%(-?) *(end)?generation *(-?)%\})"), "{#$1 $3#}");
}

const ordered_json kFour =
    conversation({{"user", "U1"}, {"assistant", "A1"}, {"user", "U2"}, {"assistant", "A2"}});

// A conversation of words that templates write too.
ordered_json random_conversation(std::mt19937& random) {
  const char* const words[] = {"a",         "is",         "assistant",    "user",
                               "model",     "<|im_end|>", "<|im_start|>", "[/INST]",
                               "<think>",   "</think>",   "\n",           "system",
                               "</s>",      "im_start",   "content",      "é",
                               " ",         "<|end|>",    "[TOOL_CALLS]", "tool_call",
                               "\"",        "<|start|>",  "bot",          "stop",
                               "{\"name\"", "message"};
  const auto text = [&] {
    std::string all;
    for (size_t i = 0, count = 1 + random() % 4; i < count; ++i) {
      if (i > 0 && random() % 2 == 0) all += ' ';
      all += words[random() % std::size(words)];
    }
    return all;
  };
  ordered_json messages = ordered_json::array();
  if (random() % 3 == 0) messages.push_back({{"role", "system"}, {"content", text()}});
  for (size_t i = 0, count = 1 + random() % 3; i < count; ++i) {
    messages.push_back({{"role", "user"}, {"content", text()}});
    // An answer that is nothing but space may be written as nothing.
    messages.push_back({{"role", "assistant"}, {"content", fmt::format("x{}", text())}});
    if (random() % 3 == 0) messages.back()["reasoning_content"] = text();
  }
  return messages;
}

}  // namespace

TEST_CASE("spans are those of tags put by hand", "[chat][spans]") {
  std::mt19937 random(7);
  for (const test::TaggedTemplate& one : test::kTaggedTemplates) {
    const auto tagged = chat_of(one.source), plain = chat_of(untagged(one.source));
    for (int i = 0; i < 60; ++i) {
      const ordered_json messages = random_conversation(random);
      INFO(one.name << "\n" << messages.dump());
      const WrittenChat wanted = tagged->write_with_spans(messages, nullptr),
                        got = plain->write_with_spans(messages, nullptr);
      CHECK(without_line_ends(marked(got)) == without_line_ends(marked(wanted)));
      CHECK(got.unmarked == 0);
    }
  }
}

TEST_CASE("spans of turns that call tools are those of tags put by hand", "[chat][spans]") {
  const ordered_json messages = ordered_json::parse(R"([
      {"role": "user", "content": "2 + 2?"},
      {"role": "assistant", "content": "", "tool_calls": [
          {"type": "function", "id": "abc", "function": {"name": "add", "arguments": {"a": 2, "b": [2]}}},
          {"type": "function", "id": "def", "function": {"name": "name", "arguments": {}}}]},
      {"role": "tool", "content": "4"},
      {"role": "assistant", "content": "4"},
      {"role": "user", "content": "again"},
      {"role": "assistant", "content": "I add.", "reasoning_content": "add", "tool_calls": [
          {"type": "function", "id": "abc", "function": {"name": "add", "arguments": {"a": "x"}}}]}])");
  const ordered_json tools = {{"tools", {{{"name", "add"}}}}};
  for (const test::TaggedTemplate& one : test::kTaggedTemplates) {
    if (one.source.find("tool_calls") == one.source.npos) continue;
    INFO(one.name);
    const std::string wanted = marked(one.source, messages, tools);
    CHECK(without_line_ends(marked(untagged(one.source), messages, tools)) ==
          without_line_ends(wanted));
    CHECK(std::count(wanted.begin(), wanted.end(), '[') >= 6);
  }
}

TEST_CASE("a short answer is found where it stands", "[chat][spans]") {
  const char* const source =
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
      "{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{% endif %}";
  for (const std::string answer : {"a", "is", "assistant", "<|im_start|>", "\n", "im_end"}) {
    CHECK(marked(source, conversation({{"user", answer}, {"assistant", answer}})) ==
          "<|im_start|>user\n" + answer + "<|im_end|>\n<|im_start|>assistant\n1[[" + answer +
              "<|im_end|>\n]]");
  }
}

TEST_CASE("a turn from which the template drops something has its span", "[chat][spans]") {
  // Reasoning is dropped from all turns but the last.
  const auto messages =
      conversation({{"user", "1"}, {"assistant", "t>x"}, {"user", "2"}, {"assistant", "t>y"}});
  CHECK(marked("{% for m in messages %}{% if m.role == 'user' %}U:{{ m.content }};{% else %}A:"
               "{{ m.content if loop.last else m.content.split('>')[-1] }};{% endif %}{% endfor %}"
               "{% if add_generation_prompt %}A:{% endif %}",
               messages) == "U:1;A:1[[x;]]U:2;A:3[[t>y;]]");
  // The prompt opens a reasoning that is not written with the turn.
  CHECK(marked("{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
               "{% if add_generation_prompt %}a:<think>{% endif %}",
               kFour) == "u:U1;a:1[[A1;]]u:U2;a:3[[A2;]]");
  // All of an answer is dropped: what ends the turn remains.
  CHECK(marked("{% for m in messages %}<{{ m.role }}>{{ m.content.split('>')[-1] }}</>{% endfor %}"
               "{% if add_generation_prompt %}<assistant><think>{% endif %}",
               conversation({{"user", "U"}, {"assistant", "all>"}})) ==
        "<user>U</><assistant>1[[</>]]");
}

TEST_CASE("the header ends where the template goes on otherwise", "[chat][spans]") {
  const auto with = [](const std::string& turn, const std::string& prompt) {
    return marked(
        "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' ~ m.content }}"
        "{% else %}{{ " +
            turn +
            " }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ " +
            prompt + " }}{% endif %}",
        conversation({{"user", "U"}, {"assistant", "A"}}));
  };
  // No marker and no word is torn.
  CHECK(with("'<|bot|>\\n<tool>' ~ m.content", "'<|bot|>\\n<think>'") ==
        "<|user|>U<|bot|>\n1[[<tool>A]]");
  CHECK(with("'<|bot|><|call|>' ~ m.content", "'<|bot|><|think|>'") ==
        "<|user|>U<|bot|>1[[<|call|>A]]");
  CHECK(with("'[BOT] toady ' ~ m.content", "'[BOT] today '") == "<|user|>U[BOT] 1[[toady A]]");
  // Literals say where they end.
  CHECK(with("'bot:x' ~ 'yz' ~ m.content", "'bot:x' ~ 'yw'") == "<|user|>Ubot:x1[[yzA]]");
  CHECK(with("'bot:xyz' ~ m.content", "'bot:x' ~ 'yw'") == "<|user|>Ubot:x1[[yzA]]");
  // A separator comes first, and the prompt opens more.
  CHECK(with("'\\n\\n<|bot|>' ~ m.content", "'<|bot|>\\n<think>'") == "<|user|>U\n\n<|bot|>1[[A]]");
  // The prompt is not what stands there.
  CHECK(with("'<|other|>' ~ m.content ~ '</s>'", "'<|bot|>'") == "<|user|>U<|other|>1[[A</s>]]");
  // The answer's own words do not continue the header.
  CHECK(marked("{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\\n' }}{% endfor %}"
               "{% if add_generation_prompt %}{{ 'assistant: yes' }}{% endif %}",
               conversation({{"user", "yes"}, {"assistant", "yes"}})) ==
        "user: yes\nassistant: 1[[yes\n]]");
  // Without a prompt, the role and what follows it are the header.
  CHECK(marked("{% for m in messages %}<|{{ m.role }}|>{{ '\\n' ~ m.content }};{% endfor %}",
               conversation({{"user", "U"}, {"assistant", "A"}})) ==
        "<|user|>\nU;<|assistant|>1[[\nA;]]");
}

TEST_CASE("what ends the last turn is said, the generation prompt is not", "[chat][spans]") {
  const auto chat = chat_of(
      "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}");
  const auto messages = conversation({{"assistant", "A1"}, {"user", "U"}, {"assistant", "A2"}});
  CHECK(marked(chat->write_with_spans(messages, nullptr)) ==
        "<|assistant|>0[[A1<|end|>]]<|user|>U<|end|><|assistant|>2[[A2<|end|>]]</s>");
  CHECK(marked(chat->write_with_spans(messages, nullptr, true)) ==
        "<|assistant|>0[[A1<|end|>]]<|user|>U<|end|><|assistant|>2[[A2<|end|>]]<|assistant|>");
}

TEST_CASE("turns that come in pairs, or in no loop", "[chat][spans]") {
  CHECK(marked("{% for i in range(0, messages|length, 2) %}[INST] {{ messages[i].content }} [/INST]"
               "{{ messages[i + 1].content }}{{ eos_token }}{% endfor %}",
               kFour) == "[INST] U1 [/INST]1[[A1</s>]][INST] U2 [/INST]3[[A2</s>]]");
  CHECK(
      marked("{% for pair in messages|batch(2) %}Q: {{ pair[0].content }} A: {{ pair[1].content }}"
             "\n{% endfor %}{% if add_generation_prompt %}A: {% endif %}",
             kFour) == "Q: U1 A: 1[[A1\n]]Q: U2 A: 3[[A2\n]]");
  CHECK(marked("{% for m in messages if m.role == 'user' %}U {{ m.content }} A "
               "{{ messages[loop.index0 * 2 + 1].content }}<|end|>{% endfor %}",
               kFour) == "U U1 A 1[[A1<|end|>]]U U2 A 3[[A2<|end|>]]");
  const std::string straight =
      "{{ bos_token }}<|user|>{{ messages[0].content }}<|end|><|bot|>{{ messages[1].content }}"
      "<|end|><|user|>{{ messages[2].content }}<|end|><|bot|>{{ messages[3].content }}<|end|>";
  CHECK(marked(straight, kFour) ==
        "<s><|user|>U1<|end|><|bot|>1[[A1<|end|>]]<|user|>U2<|end|><|bot|>3[[A2<|end|>]]");
  CHECK(marked("Q: {{ messages[0].content }} A: {{ messages[1].content }}{{ eos_token }}\n"
               "Q: {{ messages[2].content }} A: {{ messages[3].content }}{{ eos_token }}",
               kFour) == "Q: U1 A: 1[[A1</s>]]\nQ: U2 A: 3[[A2</s>]]");
  CHECK(marked("Q: {{ messages[0].content }}\nA: {{ messages[1].content }}\nQ: "
               "{{ messages[2].content }}\nA: {{ messages[3].content }}",
               kFour) == "Q: U1\nA: 1[[A1]]\nQ: U2\nA: 3[[A2]]");
}

TEST_CASE("what is collected and written at the end keeps its turns", "[chat][spans]") {
  CHECK(marked("{% set ns = namespace(text='') %}{% for m in messages %}"
               "{% set ns.text = ns.text ~ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' %}"
               "{% endfor %}{{ ns.text }}{% if add_generation_prompt %}<|assistant|>{% endif %}",
               kFour) ==
        "<|user|>U1<|end|><|assistant|>1[[A1<|end|>]]<|user|>U2<|end|><|assistant|>3[[A2<|end|>]]");
  CHECK(marked("{% set all %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>"
               "{% endfor %}{% endset %}{{ all|trim }}"
               "{% if add_generation_prompt %}<|assistant|>{% endif %}",
               kFour) ==
        "<|user|>U1<|end|><|assistant|>1[[A1<|end|>]]<|user|>U2<|end|><|assistant|>3[[A2<|end|>]]");
  // Messages that the template makes anew are those that it makes them of.
  CHECK(marked("{% set ns = namespace(all=[]) %}{% for m in messages %}{% set ns.all = ns.all + "
               "[{'role': m.role|upper, 'content': m.content|trim}] %}{% endfor %}"
               "{% for m in ns.all %}{{ m.role }}: {{ m.content }};{% endfor %}"
               "{% if add_generation_prompt %}ASSISTANT: {% endif %}",
               kFour) == "USER: U1;ASSISTANT: 1[[A1;]]USER: U2;ASSISTANT: 3[[A2;]]");
}

TEST_CASE("turns without words have spans where something is written of them", "[chat][spans]") {
  const auto empty = conversation({{"user", "U"}, {"assistant", ""}});
  CHECK(marked("{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
               "{% if add_generation_prompt %}<assistant>{% endif %}",
               empty) == "<user>U</><assistant>1[[</>]]");
  CHECK(marked("{% for i in [0] %}[INST] {{ messages[0].content }} [/INST]{{ messages[1].content }}"
               "{{ eos_token }}{% endfor %}",
               empty) == "[INST] U [/INST]1[[</s>]]");
  // Calls that the template writes by itself.
  ordered_json calls = conversation({{"user", "U"}});
  calls.push_back(ordered_json::parse(R"({"role": "assistant", "tool_calls": [1]})"));
  CHECK(marked("{% for m in messages %}<{{ m.role }}>{% if m.tool_calls %}call{% else %}"
               "{{ m.content }}{% endif %}</>{% endfor %}"
               "{% if add_generation_prompt %}<assistant>{% endif %}",
               calls) == "<user>U</><assistant>1[[call</>]]");

  // No trace: no span, and the turn is counted.
  const auto hides = chat_of(
      "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }};"
      "{% endif %}\n{% endfor %}");
  const WrittenChat chat = hides->write_with_spans(kFour, nullptr);
  CHECK(chat.turns.empty());
  CHECK(chat.unmarked == 2);
}

TEST_CASE("blocks of {% generation %} win, each for its turn", "[chat][spans]") {
  // In a macro, and around a part of what the turn says.
  CHECK(marked("{% macro said(m) %}{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}"
               "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{{ said(m) }}"
               "{% else %}{{ m.content }}{% endif %}</>{% endfor %}",
               kFour) == "<user>U1</><assistant>1[[A1]]</><user>U2</><assistant>3[[A2]]</>");
  // Several in a turn; none for another.
  CHECK(marked("{% for m in messages %}{% if m.content == 'A2' %}{% generation %}{{ m.content }}"
               "{% endgeneration %}-{% generation %}x{% endgeneration %}{% else %}{{ m.content }}"
               "{% endif %};{% endfor %}",
               kFour) == "U1;A1;U2;3[[A2]]-3[[x]];");
  CHECK(chat_of("{% for m in messages %}{% if m.content == 'A2' %}{% generation %}{{ m.content }}"
                "{% endgeneration %}{% else %}{{ m.content }}{% endif %};{% endfor %}")
            ->write_with_spans(kFour, nullptr)
            .unmarked == 1);
  // A block is one though a filter replaced some of it.
  CHECK(marked("{% filter replace('1', '-') %}{% for m in messages %}{% if m.role == 'assistant' %}"
               "{% generation %}{{ m.content ~ m.content }}{% endgeneration %}{% endif %}"
               "{% endfor %}{% endfilter %}",
               kFour) == "1[[A-A]]-3[[A2A2]]");
  // Only the template's own words, in no message's iteration.
  CHECK(
      marked("{% for i in range(4) %}{% if i % 2 %}{% generation %}bye{% endgeneration %}{% else %}"
             "{{ messages[i].content }}{% endif %}{% endfor %}",
             kFour) == "U11[[bye]]U23[[bye]]");
}

TEST_CASE("what people wrote is told apart", "[chat][spans]") {
  const auto people = [](const WrittenChat& chat) {
    std::string all;
    size_t at = 0;
    for (const TextRange& range : chat.people) {
      all.append(chat.text, at, range.begin - at).append("{{");
      all.append(chat.text, range.begin, range.end - range.begin).append("}}");
      at = range.end;
    }
    return all.append(chat.text, at);
  };
  const auto chat = chat_of(
      "{{ bos_token }}{{ tools|tojson }}{% for m in messages %}<|{{ m.role }}|>"
      "{{ m.content|trim }}{% if m.tool_calls %}{{ m.tool_calls|tojson }}{% endif %}{{ eos_token }}"
      "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}");
  ordered_json messages = conversation({{"user", " </s> "}, {"<|x|>", "c"}, {"assistant", "<s>"}});
  messages[2]["tool_calls"] = ordered_json::parse(R"([{"n": 1, "a": "</s>"}])");
  CHECK(people(chat->write_with_spans(messages, {{"tools", {"<s>"}}}, true)) ==
        "<s>{{[\"<s>\"]}}<|user|>{{</s>}}</s><|{{<|x|>}}|>{{c}}</s>"
        "<|assistant|>{{<s>[{\"n\": 1, \"a\": \"</s>\"}]}}</s><|assistant|>");
}

TEST_CASE("a template's own error is told", "[chat][spans]") {
  const auto chat = chat_of(
      "{% for m in messages %}{{ m.content }}{% endfor %}"
      "{% if messages[-1].role == 'user' and not add_generation_prompt %}"
      "{{ raise_exception('the last turn is missing') }}{% endif %}");
  CHECK_NOTHROW(chat->write_with_spans(kFour, nullptr));
  CHECK_THROWS_WITH(chat->write_with_spans(conversation({{"user", "U"}}), nullptr),
                    Catch::EndsWith("chat_template.jinja:1: the last turn is missing"));
}
