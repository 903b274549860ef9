// SPDX-License-Identifier: Apache-2.0
// Chat templates: a conversation written out as the model was trained to read it, by the Jinja
// template that its files carry, to the same string as transformers' apply_chat_template.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "text/chat/template_source.h"
#include "text/tokenizer/marks.h"

namespace tenon {

// What the assistant says in a turn, with the marker that ends the turn.
struct ChatSpan {
  size_t begin = 0, end = 0;  // bytes
  size_t turn = 0;            // which of the messages it is, from 0
};

// A written conversation, and whose its text is. That is read off where the text comes from (see
// jinja/origins.h): what stands in a message is told apart from the template's own writing wherever
// it went, however short it is and whatever it looks like.
//
// `turns` are in order and do not overlap. Where {% generation %} blocks were written, they are
// these blocks, each of the message that it encloses, and no others. Else each of the assistant's
// messages has one, which holds all that is written of its fields other than the role (reasoning,
// content, calls of tools), whatever the template left out, and of what the template itself writes
// in the same iteration of its loop over the messages:
//   - behind, all (the marker that ends the turn, a line end), up to what another message says;
//     where that is nothing, of the conversation's last message all to the end of the text, but for
//     the prompt that add_generation_prompt adds. Where other messages' words follow in the same iteration, or the
//     template has no loop: up to its eos_token, or the first of several markers in brackets.
//   - before, what follows the header: as much of the generation prompt, found once by a
//     conversation of one word, as stands there. Where the two go on differently the header ends
//     between literals of the template, and within no word and no <marker>. Where the prompt stands
//     nowhere there, nothing. Where the template has no generation prompt: all, from the end of
//     another message's words, or behind the role and the literal that follows it.
// A message that leaves no trace in the text has no span. One whose content is empty, or not
// written, has that of what the template writes in its iteration.
//
// `people`, in order, are the stretches that came with messages and with `extra`, tools among
// them: of a message all but its role, and that too unless it is one of system, developer, user,
// assistant, model, tool, function, ipython and environment, which templates write themselves.
struct WrittenChat {
  std::string text;
  std::vector<ChatSpan> turns;
  std::vector<TextRange> people;
  int64_t unmarked = 0;  // messages of the assistant without a span
};

class ChatTemplate {
 public:
  // The template of a model folder: chat_template.jinja, or `chat_template` of
  // tokenizer_config.json (of several "default", and "tool_use" where there are tools). Null where
  // it has none. `date`, "YYYY-MM-DD" or "YYYY-MM-DDTHH:MM:SS", is what strftime_now() takes for
  // now; "": the clock. Throws Error(kInput) with file and line.
  static std::shared_ptr<const ChatTemplate> of_model(const std::filesystem::path& folder,
                                                      const std::string& date = {});
  // One of names(), or a file; special tokens as the model folder says. Throws Error(kInput) listing
  // the names.
  static std::shared_ptr<const ChatTemplate> named(const std::string& name_or_file,
                                                   const std::filesystem::path& folder,
                                                   const std::string& date = {});
  static std::vector<std::string> names();
  // That of a source, with special tokens as the first of the folders says that names them.
  static std::shared_ptr<const ChatTemplate> of(const TemplateSource& source,
                                                const std::vector<std::filesystem::path>& folders,
                                                const std::string& date = {});
  virtual ~ChatTemplate() = default;

  // `messages`: a list of {"role", "content", ...}; other variables (tools, documents) in `extra`,
  // an object or null. Keys keep their order: it shows where a template writes them out. Throws
  // Error(kInput) with what the template raised, or when it takes more steps or memory than any
  // real one does. Safe to be called from many threads.
  virtual std::string write(const nlohmann::ordered_json& messages, bool add_generation_prompt,
                            const nlohmann::ordered_json& extra) const {
    return write_with_spans(messages, extra, add_generation_prompt).text;
  }
  virtual WrittenChat write_with_spans(const nlohmann::ordered_json& messages,
                                       const nlohmann::ordered_json& extra,
                                       bool add_generation_prompt) const = 0;
  WrittenChat write_with_spans(const nlohmann::ordered_json& messages,
                               const nlohmann::ordered_json& extra) const {
    return write_with_spans(messages, extra, false);
  }
  // File or name, for the log.
  virtual const std::string& source() const = 0;
};

}  // namespace tenon
