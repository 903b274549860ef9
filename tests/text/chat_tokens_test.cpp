// SPDX-License-Identifier: Apache-2.0
// Conversations as ids: what a model is asked with and what it is trained on, and where a turn ends.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/text/text_cases.h"
#include "text/chat/chat_template.h"
#include "text/chat/end_of_turn.h"
#include "text/data/chat_document.h"
#include "text/data/chat_tokens.h"
#include "text/tokenizer/stop_text.h"

using namespace tenon;
using namespace tenon::test;

namespace {

using Ids = std::vector<int32_t>;
using Messages = nlohmann::ordered_json;

Messages said(const std::vector<std::pair<std::string, std::string>>& turns) {
  Messages messages = Messages::array();
  for (const auto& [role, text] : turns) messages.push_back({{"role", role}, {"content", text}});
  return messages;
}

// A folder with a small byte-level tokenizer, <|im_start|> and <|im_end|> among its tokens
// where asked for.
class Folder {
 public:
  explicit Folder(bool chatml) {
    copy_files(reference("gpt2"), folder_.path());
    if (!chatml) return;
    put_file(folder_ / "added_tokens.json", R"({"<|im_start|>": 600, "<|im_end|>": 601})");
    put_file(folder_ / "special_tokens_map.json",
             R"({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})");
  }
  std::unique_ptr<Tokenizer> tokenizer() const { return Tokenizer::load(folder_.path()); }
  // A built-in template, or one from source.
  std::shared_ptr<const ChatTemplate> named(const std::string& name) const {
    return ChatTemplate::named(name, folder_.path());
  }
  std::shared_ptr<const ChatTemplate> of(const std::string& source) const {
    put_file(folder_ / "one.jinja", source);
    return ChatTemplate::named((folder_ / "one.jinja").string(), folder_.path());
  }

 private:
  TempFolder folder_;
};

}  // namespace

TEST_CASE("a model is asked with the ids of the whole text", "[chat_tokens]") {
  const Folder folder(true);
  const auto t = folder.tokenizer();
  const auto chatml = folder.named("chatml");
  // Texts that the template itself writes too.
  for (const std::string text : {"a", "start", "assistant", "user\n", " two  words ", "\n\n"}) {
    const Messages messages = said({{"user", text}});
    const std::string whole = chatml->write(messages, true, nullptr);
    CHECK(chat_tokens(messages, nullptr, *chatml, *t, true, true).ids == t->encode(whole));
    CHECK(chat_tokens(messages, nullptr, *chatml, *t, true, false).ids == t->encode(whole));
  }
}

TEST_CASE("special tokens that people name are plain where they are to be", "[chat_tokens]") {
  const Folder folder(true);
  const auto t = folder.tokenizer();
  const auto chatml = folder.named("chatml");
  const Messages messages = said({{"user", "<|im_end|>"}});
  Ids plain = t->encode("<|im_start|>user\n");
  t->encode_plain("<|im_end|>", plain);
  const Ids behind = t->encode("<|im_end|>\n<|im_start|>assistant\n");
  plain.insert(plain.end(), behind.begin(), behind.end());
  CHECK(chat_tokens(messages, nullptr, *chatml, *t, true, true).ids == plain);
  const DocumentTokens special = chat_tokens(messages, nullptr, *chatml, *t, true, false);
  CHECK(special.ids == t->encode(chatml->write(messages, true, nullptr)));
  CHECK(special.named == Ids{601});
}

TEST_CASE("the ids before a trained answer are those that it is asked for with", "[chat_tokens]") {
  const Folder folder(true);
  const auto t = folder.tokenizer();
  const std::string own =
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
  const Messages asked = said({{"user", "so"}, {"assistant", "it is"}, {"user", "is it"}});
  Messages all = asked;
  all.push_back({{"role", "assistant"}, {"content", "yes it is"}});
  for (const auto& chat : {folder.named("chatml"), folder.named("llama2"), folder.named("mistral"),
                           folder.named("vicuna"), folder.of(own)}) {
    CAPTURE(chat->source());
    const Ids prompt = chat_tokens(asked, nullptr, *chat, *t, true, false).ids;
    const DocumentTokens trained = chat_tokens(all, nullptr, *chat, *t, false, false);
    REQUIRE(trained.ids.size() > prompt.size());
    CHECK(Ids(trained.ids.begin(), trained.ids.begin() + std::ssize(prompt)) == prompt);
    REQUIRE(trained.runs.size() >= 4);
    CHECK(trained.runs[0].count + trained.runs[1].count + trained.runs[2].count ==
          std::ssize(prompt));
    CHECK(trained.runs[3].scored);
    // A record read as a question is the same prompt, and behind it the answer.
    Conversation record;
    record.messages = all;
    DocumentOptions options;
    options.chat_template = chat;
    options.questions = true;
    Document document;
    write_chat(record, options, "here", document);
    while (document.pieces.back().scored) document.pieces.pop_back();
    DocumentTokens question;
    tokenize_document(document, *t, Framing::kPrefix, question);
    CHECK(question.ids == prompt);
  }
}

TEST_CASE("a turn ends with a token, with a text, or with nothing", "[chat_tokens]") {
  const Folder with(true), without(false);
  const EndOfTurn token = end_of_turn(*with.named("chatml"), *with.tokenizer());
  CHECK(token.text == "<|im_end|>");
  CHECK(token.id == 601);
  const EndOfTurn text = end_of_turn(*without.named("chatml"), *without.tokenizer());
  CHECK(text.text == "<|im_end|>");
  CHECK_FALSE(text.id.has_value());
  // The token that a marker begins with is enough.
  const std::string two =
      "{% for m in messages %}{{ m.content + ' <|endoftext|>##\n' }}{% endfor %}";
  const EndOfTurn first = end_of_turn(*with.of(two), *with.tokenizer());
  CHECK(first.text == "<|endoftext|>");
  CHECK(first.id == 0);
  const std::string none = "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}";
  const EndOfTurn open = end_of_turn(*with.of(none), *with.tokenizer());
  CHECK(open.text.empty());
  CHECK_FALSE(open.id.has_value());
  // The answer of the trial stands in the template too.
  const std::string yes = "{% for m in messages %}{{ 'yes' + m.content + '<yes>\n' }}{% endfor %}";
  CHECK(end_of_turn(*with.of(yes), *with.tokenizer()).text == "<yes>");
  // A template that wants a system message first.
  const std::string wants =
      "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
      "{% for m in messages %}{{ m.content + '<end>' }}{% endfor %}";
  CHECK(end_of_turn(*with.of(wants), *with.tokenizer()).text == "<end>");
}

TEST_CASE("what tokens say ends before a stop text", "[chat_tokens]") {
  const Folder folder(false);
  const auto t = folder.tokenizer();
  StoppedDecoder decoder(*t, {"<|im_end|>"});
  std::string text;
  for (const int32_t id : t->encode("it is<|im_end|>\nno")) {
    if (decoder.stopped()) break;
    text += decoder.push(id);
  }
  CHECK(text + decoder.finish() == "it is");
  CHECK(decoder.stopped());
  StoppedDecoder open(*t, {"<|im_end|>"});
  std::string rest;
  for (const int32_t id : t->encode("it is<|im")) rest += open.push(id);
  CHECK(rest + open.finish() == "it is<|im");
  CHECK_FALSE(open.stopped());
}
