// SPDX-License-Identifier: Apache-2.0
// The shapes that records have, and what they become:
//
//   text               {"text"}
//   prompt-completion  {"prompt", "completion"}: strings, or lists of messages
//   alpaca             {"instruction", "input", "output"}; "input" may be empty or missing
//   chat               {"messages": [{"role", "content"}...]}, perhaps with "tools"
//   sharegpt           {"conversations": [{"from", "value"}...]}
//   openorca           {"system_prompt", "question", "response"}
//   columns            any two fields by name; {"question", "answer"} where no names are given
//
// What is asked and answered becomes a conversation of one turn each, written by the chat template.
// Without a template: prompt and completion as they are; alpaca with the prompt of Stanford's
// Alpaca, a newline behind "### Response:"; openorca under headings "### System:", "### Human:" and
// "### Assistant:"; columns with a newline between, which belongs to what is asked. Conversations
// are an error without a template.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "text/data/documents.h"

namespace tenon {

// Turns records of one shape into documents. Safe to share between threads.
class DocumentShape {
 public:
  // The shape that `options.format` names, or that fits this record (of the file, at `place`).
  // Throws Error(kInput) with the record's fields where none or several fit.
  static std::unique_ptr<DocumentShape> of(const nlohmann::json& record, const std::string& place,
                                           const DocumentOptions& options);
  virtual ~DocumentShape() = default;
  // False where the shape was found by looking and this record has not its fields: another may fit.
  virtual bool fits(const nlohmann::json& record) const = 0;
  // `text`: the record as the file has it, where that is JSON; else "". Throws Error(kInput) naming
  // place and field.
  virtual void write(const nlohmann::json& record, std::string_view text, const std::string& place,
                     Document& document) const = 0;
  // "alpaca (instruction, input, output), written by the chat template chatml"
  virtual std::string description() const = 0;
};

}  // namespace tenon
