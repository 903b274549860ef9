// SPDX-License-Identifier: Apache-2.0
// Chat templates: a conversation written out as the model was trained to read it, by the Jinja
// template that its files carry, to the same string as transformers' apply_chat_template.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace tenon {

// A stretch of a written conversation; `assistant` marks what the assistant says, its end-of-turn
// token included.
struct ChatSpan {
  size_t begin = 0, end = 0;  // bytes
};

// A written conversation. The spans are those of {% generation %} blocks where the template has
// them; else each assistant turn from the end of what is written with add_generation_prompt before
// it to the end of what is written up to it.
struct WrittenChat {
  std::string text;
  std::vector<ChatSpan> assistant;
};

class ChatTemplate {
 public:
  // The template of a model folder: chat_template.jinja, or `chat_template` of
  // tokenizer_config.json ("default" where there are several). Null where it has none. Throws
  // Error(kInput) with file and line.
  static std::shared_ptr<const ChatTemplate> of_model(const std::filesystem::path& folder);
  // One of the built-in names (chatml, llama2, llama3, mistral, zephyr, alpaca, ...) or a file; special
  // tokens as the model folder says. Throws Error(kInput) listing the names.
  static std::shared_ptr<const ChatTemplate> named(const std::string& name_or_file,
                                                   const std::filesystem::path& folder);
  virtual ~ChatTemplate() = default;

  // `messages`: a list of {"role", "content", ...}; other variables (tools, documents) in `extra`,
  // an object or null. Throws Error(kInput) with what the template raised, or when it takes more
  // steps or memory than any real one does.
  virtual std::string write(const nlohmann::json& messages, bool add_generation_prompt,
                            const nlohmann::json& extra) const = 0;
  virtual WrittenChat write_with_spans(const nlohmann::json& messages,
                                       const nlohmann::json& extra) const = 0;
  // File or name, for the log.
  virtual const std::string& source() const = 0;
};

}  // namespace tenon
