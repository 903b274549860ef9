// SPDX-License-Identifier: Apache-2.0
// The fields of records, each by what it is read as: what templates get of them, what is learnt, and
// what is refused by name.
#include <catch2/catch.hpp>

#include "tests/text/text_cases.h"
#include "text/data/documents.h"

using namespace tenon;
using namespace tenon::test;

namespace {

// Writes whatever a message has, tools and calls as JSON.
const std::string kAll =
    "{%- if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif -%}"
    "{%- for m in messages -%}<{{ m.role }}>{{ m.content if m.content else '' }}"
    "{%- if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<end>{% endfor -%}"
    "{%- if add_generation_prompt %}<assistant>{% endif -%}";
// Writes roles and contents alone, as most built-in templates do.
const std::string kPlain =
    "{%- for m in messages -%}<{{ m.role }}>{{ m.content }}<end>{%- endfor -%}"
    "{%- if add_generation_prompt %}<assistant>{% endif -%}";

DocumentOptions with(const std::string& source) {
  const TempFolder folder;
  DocumentOptions options;
  options.chat_template =
      ChatTemplate::named(put_file(folder / "t.jinja", source).string(), folder.path());
  return options;
}

// What the records become, a line each, what is scored in brackets; or the error.
std::string written(const std::string& records, const DocumentOptions& options,
                    const std::string& name = "a.jsonl") {
  const TempFolder folder;
  std::string lines;
  const std::string error = error_of([&] {
    const auto reader = open_documents(put_file(folder / name, records), options);
    for (Document document; reader->next(document);) {
      if (!lines.empty()) lines += '\n';
      bool scored = false;
      for (const DocumentPiece& piece : document.pieces) {
        if (piece.scored != scored) lines += piece.scored ? "[" : "]";
        scored = piece.scored;
        lines += piece.text;
      }
      if (scored) lines += "]";
    }
  });
  if (error == "no error") return lines;
  const std::string begin = "2: " + folder.path().string() + "/";
  return error.starts_with(begin) ? error.substr(begin.size()) : error;
}

// A chat of one question and its answer, with more fields in front.
std::string asked(const std::string& fields) {
  return "{" + fields +
         R"("messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
}

std::string turns(const std::string& messages) { return R"({"messages": [)" + messages + "]}"; }

const std::string kTurn = "<user>a<end><assistant>[b<end>]";
const std::string kCall =
    R"({"role": "assistant", "content": null, "tool_calls": [{"type": )"
    R"("function", "function": {"name": "f", "arguments": {"z": 1, "a": 2}}}]})";
const std::string kUser = R"({"role": "user", "content": "a"})";

void refused(const std::string& records, const DocumentOptions& options,
             const std::string& message) {
  CAPTURE(records);
  CHECK_THAT(written(records, options), Catch::StartsWith(message));
}

}  // namespace

TEST_CASE("tools are a list of objects, or one as JSON in a string", "[records]") {
  const DocumentOptions all = with(kAll);
  const std::string line = R"(<tools>{"z": 1, "a": {"y": 2, "b": 3}})" + kTurn;
  for (const std::string tools :
       {R"([{"z": 1, "a": {"y": 2, "b": 3}}])", R"("[{\"z\": 1, \"a\": {\"y\": 2, \"b\": 3}}]")"}) {
    const std::string field = "\"tools\": " + tools + ", ";
    CAPTURE(tools);
    CHECK(written(asked(field), all) == line);
    CHECK(written("{" + field +
                      R"("conversations": [{"from": "human", "value": "a"}, )"
                      R"({"from": "gpt", "value": "b"}]})",
                  all) == line);
    CHECK(written("{" + field +
                      R"("prompt": [{"role": "user", "content": "a"}], )"
                      R"("completion": [{"role": "assistant", "content": "b"}]})",
                  all) == line);
    CHECK(written("{" + field + R"("prompt": "a", "completion": "b"})", all) == line);
    CHECK(written("{" + field + R"("instruction": "a", "output": "b"})", all) == line);
  }
  for (const char* none : {"null", "[]", "\"[]\"", "\"\""}) {
    CHECK(written(asked("\"tools\": " + std::string(none) + ", "), all) == kTurn);
  }
  const std::string place = "a.jsonl:1: field \"tools\": expected a list of objects, ";
  refused(asked(R"("tools": "[not json", )"), all,
          place + "or one as JSON in a string, got a string: its text:1:3: invalid JSON: ");
  refused(asked(R"("tools": "{\"a\": 1}", )"), all,
          place + "or one as JSON in a string, got an object in a string");
  refused(asked(R"("tools": {"a": 1}, )"), all, place + "got an object");
  refused(asked(R"("tools": 7, )"), all, place + "got 7");
  refused(asked(R"("tools": ["f"], )"), all, place + "got \"f\" in it");
  refused(asked(R"("functions": [{"name": "f"}], )"), all,
          "a.jsonl:1: field \"functions\": expected \"tools\" in its place");
  CHECK(written(asked(R"("functions": [], )"), all) == kTurn);
  refused(R"({"prompt": "a", "completion": "b", "tools": [{"a": 1}]})", {},
          "a.jsonl:1: field \"tools\": expected a chat template that writes it");
}

TEST_CASE("a content of parts is their text", "[records]") {
  const std::string parts = turns(
      R"({"role": "user", "content": [{"type": "text", "text": " a "}, )"
      R"({"type": "text", "text": " b"}]}, {"role": "assistant", "content": [{"text": "c"}]})");
  CHECK(written(parts, with(kPlain)) == "<user> a  b<end><assistant>[c<end>]");
  // A template that reads parts gets them.
  const std::string reads =
      "{%- for m in messages -%}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
      "{% for p in m.content %}{{ p.text | trim }}{% endfor %}{% endif %}<end>{% endfor -%}"
      "{%- if add_generation_prompt %}<assistant>{% endif -%}";
  CHECK(written(turns(R"({"role": "user", "content": [{"type": "text", "text": " a "}, )"
                      R"({"type": "text", "text": " b"}]}, {"role": "assistant", "content": "c"})"),
                with(reads)) == "<user>ab<end><assistant>[c<end>]");
  const DocumentOptions plain = with(kPlain);
  const auto content = [](const std::string& value) {
    return turns(R"({"role": "user", "content": )" + value + "}");
  };
  refused(
      content(R"([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "b"}])"), plain,
      "a.jsonl:1: messages[0]: content[1]: field \"type\": expected \"text\", got \"image_url\"");
  refused(content(R"([{"type": "text", "text": 1}])"), plain,
          "a.jsonl:1: messages[0]: content[0]: field \"text\": expected a string, got 1");
  refused(content("[\"a\"]"), plain,
          "a.jsonl:1: messages[0]: content[0]: expected an object of type and text, got \"a\"");
  refused(content("[]"), plain,
          "a.jsonl:1: messages[0]: field \"content\": expected a string, got an empty list");
}

TEST_CASE("a content that is null is never written as the word None", "[records]") {
  const std::string place = "a.jsonl:1: messages[1]: field \"content\": expected a string, got ";
  for (const std::string& source : {kAll, kPlain}) {
    const DocumentOptions options = with(source);
    for (const char* calls : {"", R"(, "tool_calls": null)", R"(, "tool_calls": [])"}) {
      refused(turns(kUser + R"(, {"role": "assistant", "content": null)" + calls + "}"), options,
              place + "null");
      refused(turns(kUser + R"(, {"role": "assistant")" + calls + "}"), options, place + "nothing");
    }
    refused(turns(kUser + R"(, {"role": "user", "content": null, "tool_calls": [{"a": 1}]})"),
            options, place + "null");
  }
  const std::string call =
      R"(<user>a<end><assistant>[[{"type": "function", "function": {"name": "f", "arguments": )"
      R"({"z": 1, "a": 2}}}]<end>])";
  CHECK(written(turns(kUser + ", " + kCall), with(kAll)) == call);
  // It writes null as it stands, and calls behind it.
  const std::string writes_null =
      "{%- for m in messages -%}<{{ m.role }}>{{ m.content }}{% if m.tool_calls %}"
      "{{ m.tool_calls | tojson }}{% endif %}<end>{% endfor -%}"
      "{%- if add_generation_prompt %}<assistant>{% endif -%}";
  CHECK(written(turns(kUser + ", " + kCall), with(writes_null)) == call);
  // It asks whether the content is null, which then stays so.
  const std::string asks_null =
      "{%- for m in messages -%}<{{ m.role }}>{% if m.content is none %}"
      "{{ m.tool_calls | tojson }}{% else %}{{ m.content }}{% endif %}<end>{% endfor -%}"
      "{%- if add_generation_prompt %}<assistant>{% endif -%}";
  CHECK(written(turns(kUser + ", " + kCall), with(asks_null)) == call);
  CHECK_THAT(
      written(turns(kUser + ", " + kCall), with(kPlain)),
      Catch::StartsWith("a.jsonl:1: messages[1]: the message says nothing but \"tool_calls\", "
                        "of which the chat template "));
}

TEST_CASE("calls are a list of objects in the order of the file", "[records]") {
  const DocumentOptions all = with(kAll);
  const auto called = [&](const std::string& calls) {
    return turns(kUser + R"(, {"role": "assistant", "content": "b", "tool_calls": )" + calls + "}");
  };
  CHECK(written(called(R"([{"z": 1, "a": 2}])"), all) ==
        R"(<user>a<end><assistant>[b[{"z": 1, "a": 2}]<end>])");
  CHECK(written(called(R"("[{\"z\": 1, \"a\": 2}]")"), all) ==
        R"(<user>a<end><assistant>[b[{"z": 1, "a": 2}]<end>])");
  CHECK(written(called("null"), all) == kTurn);
  refused(
      called("{\"a\": 1}"), all,
      "a.jsonl:1: messages[1]: field \"tool_calls\": expected a list of objects, got an object");
  refused(called("[1]"), all,
          "a.jsonl:1: messages[1]: field \"tool_calls\": expected a list of objects, got 1 in it");
  refused(turns(R"({"role": "assistant", "content": "b", "function_call": {"name": "f"}})"), all,
          "a.jsonl:1: messages[0]: field \"function_call\": expected \"tool_calls\" in its place");
}

TEST_CASE("turns may say that they are not to be learnt", "[records]") {
  const DocumentOptions plain = with(kPlain);
  const auto weighed = [](const std::string& first, const std::string& second) {
    return turns(kUser + R"(, {"role": "assistant", "content": "b")" + first + "}, " + kUser +
                 R"(, {"role": "assistant", "content": "c")" + second + "}");
  };
  const std::string last = "<user>a<end><assistant>b<end><user>a<end><assistant>[c<end>]";
  CHECK(written(weighed(R"(, "weight": 0)", R"(, "weight": 1)"), plain) == last);
  CHECK(written(weighed(R"(, "train": false)", R"(, "train": null)"), plain) == last);
  CHECK(written(weighed(R"(, "loss": false)", ""), plain) == last);
  CHECK(written(weighed(R"(, "weight": 0.0)", R"(, "weight": 1.0)"), plain) == last);
  CHECK(written(weighed("", R"(, "weight": 0)"), plain) ==
        "<user>a<end><assistant>[b<end>]<user>a<end><assistant>c<end>");
  CHECK(written(R"({"conversations": [{"from": "human", "value": "a"}, )"
                R"({"from": "gpt", "value": "b", "weight": 0}, {"from": "human", "value": "a"}, )"
                R"({"from": "gpt", "value": "c", "weight": 1}]})",
                plain) == last);
  for (const char* value : {"0.5", "2", "-1", "\"0\"", "[]"}) {
    refused(weighed(R"(, "weight": )" + std::string(value), ""), plain,
            "a.jsonl:1: messages[1]: field \"weight\": expected 0 (not to be learnt) or 1, got ");
  }
  refused(turns(R"({"role": "user", "content": "a", "train": true})"), plain,
          "a.jsonl:1: messages[0]: field \"train\": expected a turn of the assistant");
  refused(weighed(R"(, "train_detail": [{"begin_offset": 0}])", ""), plain,
          "a.jsonl:1: messages[1]: field \"train_detail\": expected \"train\" for the turn");
}

TEST_CASE("roles by the names that data sets use", "[records]") {
  const DocumentOptions plain = with(kPlain), all = with(kAll);
  const auto shared = [](const std::string& turns) {
    return R"({"conversations": [)" + turns + "]}";
  };
  const std::string human = R"({"from": "human", "value": "a"}, )";
  CHECK(written(shared(human + R"({"from": "gpt", "value": "b"})"), plain) == kTurn);
  CHECK(written(shared(R"({"role": "human", "content": "a"}, {"role": "gpt", "content": "b"})"),
                plain) == kTurn);
  CHECK(written(shared(R"({"role": "user", "value": "a"}, {"role": "assistant", "value": "b"})"),
                plain) == kTurn);
  CHECK(written(turns(R"({"role": "developer", "content": "s"}, {"role": "user", "content": "a"})"),
                plain) == "<developer>s<end><user>a<end>");
  CHECK(written(turns(kUser + R"(, {"role": "observation", "content": "1"})"), plain) ==
        "<user>a<end><observation>1<end>");
  // A call is the assistant's, as calls where the template writes them; what comes back a tool's.
  const std::string call =
      human + R"({"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": )"
              R"({\"x\": 1}}"}, {"from": "observation", "value": "1"}, )"
              R"({"from": "gpt", "value": "b"})";
  CHECK(written(shared(call), plain) ==
        R"(<user>a<end><assistant>[{"name": "f", "arguments": {"x": 1}}<end>]<tool>1<end>)"
        "<assistant>[b<end>]");
  CHECK(written(shared(call), all) ==
        R"(<user>a<end><assistant>[[{"type": "function", "function": {"name": "f", "arguments": )"
        R"({"x": 1}}}]<end>]<tool>1<end><assistant>[b<end>])");
  CHECK(written(shared(human + R"({"from": "function_call", "value": "f"})"), all) ==
        "<user>a<end><assistant>[f<end>]");
  for (const char* key : {"role", "from"}) {
    const std::string turn = "{\"" + std::string(key) + R"(": "asistant", "content": "a"})";
    CHECK_THAT(written(turns(turn), plain),
               Catch::StartsWith("a.jsonl:1: messages[0]: field \"" + std::string(key) +
                                 "\": expected one of system, ") &&
                   Catch::Contains(", got \"asistant\""));
  }
}

TEST_CASE("answers in front of the first question are left out, not a whole record", "[records]") {
  const DocumentOptions plain = with(kPlain);
  const std::string answer = R"({"from": "gpt", "value": "b"})";
  const std::string question = R"({"from": "human", "value": "a"})";
  const auto shared = [](const std::string& turns) {
    return R"({"conversations": [)" + turns + "]}";
  };
  CHECK(written(shared(answer + "," + answer + "," + question + "," + answer), plain) == kTurn);
  for (const std::string& turns : {answer, answer + "," + answer, answer + "," + question,
                                   R"({"from": "system", "value": "s"},)" + answer}) {
    refused(shared(turns), plain,
            "a.jsonl:1: field \"conversations\": expected an answer behind a question, got ");
  }
}

TEST_CASE("system messages and earlier turns beside a conversation", "[records]") {
  DocumentOptions plain = with(kPlain);
  const std::string line = "<system>s<end>" + kTurn;
  CHECK(written(asked(R"("system": "s", )"), plain) == line);
  CHECK(written(R"({"system": "s", "conversations": [{"from": "human", "value": "a"}, )"
                R"({"from": "gpt", "value": "b"}]})",
                plain) == line);
  CHECK(written(R"({"system": "s", "prompt": "a", "completion": "b"})", plain) == line);
  CHECK(written(R"({"system": "s", "question": "a", "answer": "b"})", plain) == line);
  CHECK(written(asked(R"("system": null, )"), plain) == kTurn);
  const std::string own = R"({"role": "system", "content": "s"}, )" + kUser;
  CHECK(written(R"({"system": "s", "messages": [)" + own + "]}", plain) ==
        "<system>s<end><user>a<end>");
  refused(R"({"system": "t", "messages": [)" + own + "]}", plain,
          "a.jsonl:1: field \"system\": expected one system message, got another in \"messages\"");
  const std::string alpaca =
      R"({"instruction": "a", "input": null, "output": "b", "system": "s", "history": )";
  CHECK(written(alpaca + R"([["c", "d"], ["e", "f"]]})", plain) ==
        "<system>s<end><user>c<end><assistant>[d<end>]<user>e<end><assistant>[f<end>]" + kTurn);
  CHECK(written(alpaca + "[]}", plain) == line);
  refused(alpaca + R"([["c"]]})", plain,
          "a.jsonl:1: field \"history\": expected a list of pairs of strings, got another element");
  refused(alpaca + "7}", plain,
          "a.jsonl:1: field \"history\": expected a list of pairs of strings, got 7");
  refused(alpaca + R"([["c", "d"]]})", {},
          "a.jsonl:1: field \"history\": expected a chat template that writes it");
  CHECK(written(alpaca + "null}", {}) == "s\n\n### Instruction:\na\n\n### Response:\n[b]");
  refused(R"({"system": "s", "question": "a", "answer": "b"})", {},
          "a.jsonl:1: field \"system\": expected a chat template that writes it");

  plain.system = "o";
  CHECK(written(R"({"prompt": "a", "completion": "b"})", plain) == "<system>o<end>" + kTurn);
  CHECK(written(R"({"system": "s", "prompt": "a", "completion": "b"})", plain) == line);
  CHECK(written(R"({"prompt": [{"role": "user", "content": "a"}], "completion": )"
                R"([{"role": "assistant", "content": "b"}]})",
                plain) == "<system>o<end>" + kTurn);
  DocumentOptions none;
  none.system = "o";
  CHECK_THAT(written(R"({"prompt": "a", "completion": "b"})", none),
             Catch::Contains("--system: expected a chat template that writes it"));
}

TEST_CASE("prompts and completions of messages", "[records]") {
  const DocumentOptions plain = with(kPlain);
  const std::string prompt = R"({"prompt": [)" + kUser +
                             R"(, {"role": "assistant", "content": )"
                             R"("b"}], "completion": )";
  CHECK(written(prompt + R"([{"role": "assistant", "content": "c"}, {"role": "user", "content": )"
                         R"("d"}, {"role": "assistant", "content": "e"}]})",
                plain) ==
        "<user>a<end><assistant>b<end><assistant>[c<end>]<user>d<end><assistant>[e<end>]");
  refused(prompt + "[" + kUser + "]}", plain,
          "a.jsonl:1: field \"completion\": expected a message of the assistant, got none");
  refused(
      prompt + "\"c\"}", plain,
      "a.jsonl:1: field \"completion\": expected a list of messages, or one as JSON in a string");
  refused(R"({"prompt": "a", "completion": [{"role": "assistant", "content": "c"}]})", plain,
          "a.jsonl:1: field \"completion\": expected a string, got a list");
}

TEST_CASE("messages may be JSON in a string, as CSV must have them", "[records]") {
  CHECK(written("messages,n\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}, "
                "{\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"b\"\"}]\",1\n",
                with(kPlain), "a.csv") == kTurn);
  refused(R"({"messages": "a"})", with(kPlain),
          "a.jsonl:1: field \"messages\": expected a list of messages, or one as JSON in a string, "
          "got a string: ");
}

TEST_CASE("fields that are not read are named", "[records]") {
  const TempFolder folder;
  const auto unread = [&](const std::string& records, const DocumentOptions& options) {
    const auto reader = open_documents(put_file(folder / "a.jsonl", records), options);
    for (Document document; reader->next(document);) {
    }
    std::string names;
    for (const std::string& name : reader->unread_fields()) names += name + " ";
    return names;
  };
  CHECK(unread(R"({"id": 7, "question": "a", "answer": "b", "note": "", "more": null})"
               "\n"
               R"({"id": 8, "question": "a", "answer": "b", "tags": ["x"]})",
               {}) == "id tags ");
  DocumentOptions columns;
  columns.columns = {"q", "tries.0.say"};
  CHECK(unread(R"({"q": "a", "tries": [{"say": "b"}], "question": "c"})", columns) == "question ");
  const std::string tools = asked(R"("tools": [{"name": "f"}], "source": "x", )");
  CHECK(unread(tools, with(kAll)) == "source ");
  CHECK(unread(tools, with(kPlain)) == "tools source ");  // the template writes none
}

TEST_CASE("the first record that has a shape says what a file is", "[records]") {
  DocumentOptions skip;
  skip.skip_bad = true;
  const std::string good = R"({"text": "b"})";
  for (const std::string bad : {R"({"text": null})", "{\"text", "[]", "7"}) {
    CAPTURE(bad);
    const std::string records = bad + "\n" + bad + "\n" + good + "\n" + bad + "\n";
    CHECK(written(records, skip) == "[b]");
    CHECK_THAT(written(records, {}), Catch::StartsWith("a.jsonl:1:"));
    CHECK_THAT(
        written(bad + "\n" + bad + "\n", skip),
        Catch::StartsWith("a.jsonl: expected a record that can be read, got none; the first: "));
  }
  const TempFolder folder;
  const std::string text = "{\"x\": 1}\n{\"x\": 2}\n" + good + "\n";
  const auto path = put_file(folder / "a.jsonl", text);
  const auto size = static_cast<int64_t>(text.size());
  int64_t skipped = 0;
  std::string found;
  for (int64_t begin = 0; begin < size; begin += 5) {
    const auto reader = open_documents(path, skip, {begin, std::min(begin + 5, size)});
    for (Document document; reader->next(document);) found += document.pieces.at(0).text;
    skipped += reader->skipped();
  }
  CHECK(found == "b");
  CHECK(skipped == 2);
}
