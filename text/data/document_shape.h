// SPDX-License-Identifier: Apache-2.0
// What records become. The fields of each shape stand in record_shapes.cpp:
//
//   text               {"text"}
//   prompt-completion  {"prompt", "completion"}: strings, or lists of messages
//   alpaca             {"instruction", "input", "output"}; "input" may be empty or missing
//   chat               {"messages": [{"role", "content"}...]}
//   sharegpt           {"conversations": [{"from", "value"}...]}
//   openorca           {"system_prompt", "question", "response"}
//   columns            any two fields by name; {"question", "answer"} where no names are given
//
// What is asked and answered becomes a conversation, written by the chat template: messages.h says
// what of messages. Beside it "system" is its first message, "history" (alpaca's) what was asked and
// answered before, and "tools" goes to the template. Without a template: prompt and completion as
// they are; alpaca with the prompt of Stanford's Alpaca, in which a system message stands for the
// first sentences, a newline behind "### Response:"; openorca under headings "### System:",
// "### Human:" and "### Assistant:"; columns with a newline between, which belongs to what is asked.
// What else asks for a template is an error without one.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/json.h"
#include "text/data/documents.h"

namespace tenon {

// Turns records of one shape into documents. Safe to share between threads.
class DocumentShape {
 public:
  // The shape that `options.format` names, or that fits this record (of the file, at `place`).
  // Throws Error(kInput) with the record's fields where none or several fit. Requires: of columns,
  // none or two.
  static std::unique_ptr<DocumentShape> of(const OrderedJson& record, const std::string& place,
                                           const DocumentOptions& options);
  virtual ~DocumentShape() = default;
  // False where the shape was found by looking and this record has not its fields: another may fit.
  virtual bool fits(const OrderedJson& record) const = 0;
  // Throws Error(kInput) naming place and field.
  virtual void write(const OrderedJson& record, const std::string& place,
                     Document& document) const = 0;
  // Adds the names of the record's fields that say something and are not read, each once.
  virtual void note_unread(const OrderedJson& record, std::vector<std::string>& names) const = 0;
  // "alpaca (instruction, input, output), written by the chat template chatml"
  virtual std::string description() const = 0;
};

}  // namespace tenon
