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

namespace tenon {

// A stretch of a written conversation: what the assistant says, its end-of-turn token included.
struct ChatSpan {
  size_t begin = 0, end = 0;  // bytes
};

// A written conversation. The spans are those of {% generation %} blocks where the template has
// them; else each assistant turn from the end of what is written with add_generation_prompt before
// it (where that is written differently, from the turn's content) to the end of what is written up
// to it. A turn that the template writes otherwise once the conversation goes on, as templates do
// that drop earlier reasoning, has no span: the model never says it as it stands there. The last
// assistant turn always has one.
struct WrittenChat {
  std::string text;
  std::vector<ChatSpan> assistant;
  int64_t unmarked = 0;  // assistant turns without a span
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
                            const nlohmann::ordered_json& extra) const = 0;
  virtual WrittenChat write_with_spans(const nlohmann::ordered_json& messages,
                                       const nlohmann::ordered_json& extra) const = 0;
  // File or name, for the log.
  virtual const std::string& source() const = 0;
};

}  // namespace tenon
