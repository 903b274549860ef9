// SPDX-License-Identifier: Apache-2.0
// Which turns of a conversation are scored, and how its text is cut into pieces.
#include "text/data/chat_document.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "core/file.h"
#include "tests/core/temp_folder.h"

using namespace tenon;
using nlohmann::ordered_json;

namespace {

// Writes reasoning behind the last question only, and nothing of an answer "hidden".
constexpr const char* kThinks =
    "{%- set ns = namespace(last=-1) -%}"
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- for m in messages if m.content != 'hidden' -%}{{- '<' + m.role + '>' -}}"
    "{%- if m.reasoning_content and loop.index0 > ns.last -%}"
    "{{- '<think>' + m.reasoning_content + '</think>' -}}{%- endif -%}"
    "{{- m.content + '</>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<assistant>{%- endif -%}";

DocumentOptions options_for(const std::string& source, TrainOn train_on) {
  const test::TempFolder folder;
  write_text_atomic(folder.path() / "chat_template.jinja", source);
  DocumentOptions options;
  options.chat_template = ChatTemplate::of_model(folder.path());
  options.train_on = train_on;
  return options;
}

// Two questions; answers say what they think.
Conversation two_answers() {
  Conversation chat;
  chat.messages = ordered_json::parse(R"([
      {"role": "user", "content": "a"},
      {"role": "assistant", "content": "A", "reasoning_content": "r"},
      {"role": "user", "content": "b"},
      {"role": "assistant", "content": "B", "reasoning_content": "s"}])");
  return chat;
}

// The pieces, what is scored in brackets and what people wrote in braces.
std::string written(const Conversation& chat, TrainOn train_on = TrainOn::kAll,
                    const std::string& source = kThinks) {
  Document document;
  write_chat(chat, options_for(source, train_on), "here", document);
  CHECK(document.whole);
  CHECK_FALSE(document.framed);
  std::string all;
  for (const DocumentPiece& piece : document.pieces) {
    const std::string text = piece.people ? "{" + piece.text + "}" : piece.text;
    all += piece.scored ? "[" + text + "]" : text;
  }
  return all;
}

}  // namespace

TEST_CASE("turns are scored by their messages", "[documents][chat]") {
  Conversation chat = two_answers();
  CHECK(written(chat) ==
        "<user>{a}</><assistant>[{A}][</>]<user>{b}</><assistant>"
        "[<think>][{s}][</think>][{B}][</>]");
  const std::string last =
      "<user>{a}</><assistant>{A}</><user>{b}</><assistant>[<think>][{s}][</think>][{B}][</>]";
  CHECK(written(chat, TrainOn::kLast) == last);
  chat.given = {true, true, true, false};
  CHECK(written(chat) == last);
  chat.given = {false, false, false, true};
  const std::string first =
      "<user>{a}</><assistant>[{A}][</>]<user>{b}</><assistant><think>{s}</think>{B}</>";
  CHECK(written(chat) == first);
  CHECK(written(chat, TrainOn::kLast) == first);
  chat.given.assign(4, true);
  CHECK(written(chat) ==
        "<user>{a}</><assistant>{A}</><user>{b}</><assistant><think>{s}</think>{B}</>");
}

TEST_CASE("answers that the template does not write", "[documents][chat]") {
  Conversation chat = two_answers();
  chat.messages[3]["content"] = "hidden";
  CHECK(written(chat, TrainOn::kLast) == "<user>{a}</><assistant>[{A}][</>]<user>{b}</>");
  chat.messages[1]["content"] = "hidden";
  CHECK(written(chat, TrainOn::kEverything) == "[<user>][{a}][</><user>][{b}][</>]");
  CHECK_THROWS_WITH(written(chat), Catch::Contains("here: ") &&
                                       Catch::Contains("nothing of what the assistant says"));
  chat.given.assign(4, true);
  CHECK(written(chat) == "<user>{a}</><user>{b}</>");
}

TEST_CASE("what a template raises is told with the record's place", "[documents][chat]") {
  CHECK_THROWS_WITH(written(two_answers(), TrainOn::kEverything, "{{ raise_exception('no') }}"),
                    Catch::Contains("here: ") && Catch::EndsWith("chat_template.jinja:1: no"));
}
