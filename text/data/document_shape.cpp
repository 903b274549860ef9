// SPDX-License-Identifier: Apache-2.0
#include "text/data/document_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "text/data/chat_document.h"
#include "text/data/messages.h"
#include "text/data/record_fields.h"
#include "text/data/record_shapes.h"
#include "text/data/template_probe.h"

namespace tenon {
namespace {

// The shape whose fields are those of the options where they name columns.
RecordShape shape_of(const RecordShape& row, const DocumentOptions& options) {
  RecordShape shape = row;
  if (options.columns.empty()) return shape;
  shape.fields = {{options.columns[0], FieldUse::kAsked, true},
                  {options.columns[1], FieldUse::kAnswered, true}};
  return shape;
}

std::string text_of(const std::string* text) { return text == nullptr ? "" : *text; }

class Shape : public DocumentShape {
 public:
  Shape(const RecordShape& row, const OrderedJson& first, const DocumentOptions& options)
      : shape_(shape_of(row, options)), options_(options) {
    if (options.chat_template != nullptr) probe_.emplace(options.chat_template);
    for (const FieldRow& field : shape_.fields) {
      const bool stands = field.needed || says_something(find_field(first, field.name));
      if (stands) described_.push_back(field.name);
    }
  }

  bool fits(const OrderedJson& record) const override {
    const bool found = options_.format == "auto" && options_.columns.empty();
    return !found || !record.is_object() || shape_.fits(record);
  }

  void write(const OrderedJson& record, const std::string& place,
             Document& document) const override {
    document.pieces.clear();
    document.place = place;
    document.framed = true;
    document.sample = !is("text");
    if (!record.is_object()) fail_input("{}: expected a JSON object, got {}", place, brief(record));
    if (is("text")) {
      document.pieces.push_back({needed_text(record, FieldUse::kText, place)});
    } else if (probe_) {
      write_chat(conversation(record, place), options_, place, document);
    } else {
      write_plain(record, place, document);
    }
  }

  void note_unread(const OrderedJson& record, std::vector<std::string>& names) const override {
    const auto note = [&](const std::string& name) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    };
    if (!record.is_object()) return;
    for (const auto& [name, value] : record.items()) {
      const FieldRow* const row = row_of(name);
      const bool silent = row != nullptr && row->use == FieldUse::kTools && probe_ &&
                          says_something(&value) && !probe_->writes_tools();
      if (silent || (row == nullptr && says_something(&value))) note(name);
    }
  }

  std::string description() const override {
    const std::string text = fmt::format("{} ({})", shape_.name,
                                         printable(fmt::format("{}", fmt::join(described_, ", "))));
    if (is("text")) return text;
    if (probe_) return text + ", written by the chat template " + probe_->chat().source();
    if (is("alpaca")) return text + ", written as Alpaca's prompt";
    if (is("openorca")) return text + ", under \"### System, Human, Assistant\"";
    if (is("columns")) return text + ", a newline between";
    return text + ", as it is";
  }

 private:
  bool is(const char* name) const { return shape_.name == name; }

  // The row of the record's field, which a path may begin with; null where it is not read.
  const FieldRow* row_of(const std::string& field) const {
    const auto row = std::find_if(
        shape_.fields.begin(), shape_.fields.end(),
        [&](const FieldRow& r) { return r.name == field || r.name.starts_with(field + "."); });
    return row == shape_.fields.end() ? nullptr : &*row;
  }

  // Whether the record is a list of messages, or two.
  bool is_chat(const OrderedJson& record) const {
    if (!is("prompt-completion")) return shape_.find(FieldUse::kMessages) != nullptr;
    const OrderedJson* const prompt = found(record, FieldUse::kAsked);
    return prompt != nullptr && prompt->is_array();
  }

  const OrderedJson* found(const OrderedJson& record, FieldUse use) const {
    const FieldRow* const row = shape_.find(use);
    return row == nullptr ? nullptr : find_field(record, row->name);
  }

  const std::string& needed_text(const OrderedJson& record, FieldUse use,
                                 const std::string& place) const {
    return *text_field(record, shape_.field(use), place, true);
  }

  // Null where the shape has no such field, or the record none or an empty one.
  const std::string* other_text(const OrderedJson& record, FieldUse use,
                                const std::string& place) const {
    const FieldRow* const row = shape_.find(use);
    if (row == nullptr) return nullptr;
    const std::string* const text = text_field(record, row->name, place, false);
    return text == nullptr || text->empty() ? nullptr : text;
  }

  void refuse_outdated(const OrderedJson& record, const std::string& place) const {
    if (!says_something(found(record, FieldUse::kOutdated))) return;
    fail_input("{}: field \"{}\": expected \"{}\" in its place", place,
               shape_.field(FieldUse::kOutdated), shape_.field(FieldUse::kTools));
  }

  // ---------------------------------------------------------------------------- with a template

  Conversation conversation(const OrderedJson& record, const std::string& place) const {
    refuse_outdated(record, place);
    Conversation chat;
    if (shape_.find(FieldUse::kMessages) != nullptr) {
      add_messages(record, shape_.field(FieldUse::kMessages), place, false, *probe_, chat);
      if (is("sharegpt")) drop_leading_answers(place, chat);
    } else if (is_chat(record)) {
      add_prompt(record, place, chat);
    } else {
      add_history(record, place, chat);
      const std::string* const input = other_text(record, FieldUse::kInput, place);
      const std::string question = needed_text(record, FieldUse::kAsked, place);
      add_message(said("user", input == nullptr ? question : question + "\n\n" + *input), chat);
      add_message(said("assistant", needed_text(record, FieldUse::kAnswered, place)), chat);
    }
    add_system(record, place, chat);
    if (const FieldRow* const tools = shape_.find(FieldUse::kTools)) {
      OrderedJson parsed;
      const OrderedJson* const list = objects_field(record, tools->name, place, parsed);
      if (list != nullptr) chat.extra = {{"tools", *list}};
    }
    return chat;
  }

  void add_prompt(const OrderedJson& record, const std::string& place, Conversation& chat) const {
    const std::string& completion = shape_.field(FieldUse::kAnswered);
    add_messages(record, shape_.field(FieldUse::kAsked), place, true, *probe_, chat);
    const auto before = static_cast<std::ptrdiff_t>(chat.messages.size());
    add_messages(record, completion, place, false, *probe_, chat);
    if (std::none_of(chat.messages.begin() + before, chat.messages.end(),
                     [](const OrderedJson& message) { return says(message, "assistant"); })) {
      fail_input("{}: field \"{}\": expected a message of the assistant, got none", place,
                 completion);
    }
  }

  void add_history(const OrderedJson& record, const std::string& place, Conversation& chat) const {
    const FieldRow* const row = shape_.find(FieldUse::kHistory);
    if (row == nullptr) return;
    constexpr const char* kExpected = "a list of pairs of strings";
    OrderedJson parsed;
    const OrderedJson* const list = list_field(record, row->name, place, kExpected, parsed);
    if (list == nullptr) return;
    for (const OrderedJson& pair : *list) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
        fail_input("{}: field \"{}\": expected {}, got another element", place, row->name,
                   kExpected);
      }
      add_message(said("user", pair[0].get<std::string>()), chat);
      add_message(said("assistant", pair[1].get<std::string>()), chat);
    }
  }

  // ShareGPT's exports cut long conversations in pieces, which may begin with an answer.
  void drop_leading_answers(const std::string& place, Conversation& chat) const {
    const size_t first = says(chat.messages[0], "system") ? 1 : 0;
    bool dropped = false;
    while (chat.messages.size() > first && says(chat.messages[first], "assistant")) {
      chat.messages.erase(first);
      chat.given.erase(chat.given.begin() + static_cast<std::ptrdiff_t>(first));
      dropped = true;
    }
    if (dropped && std::none_of(chat.messages.begin(), chat.messages.end(),
                                [](const OrderedJson& turn) { return says(turn, "assistant"); })) {
      fail_input(
          "{}: field \"{}\": expected an answer behind a question, got answers only in front "
          "of any",
          place, shape_.field(FieldUse::kMessages));
    }
  }

  // The record's own system message, or else that of the options.
  void add_system(const OrderedJson& record, const std::string& place, Conversation& chat) const {
    const std::string* const own = other_text(record, FieldUse::kSystem, place);
    OrderedJson& first = chat.messages[0];
    const bool begins = says(first, "system") || says(first, "developer");
    if (begins && own != nullptr && first["content"] != *own) {
      fail_input("{}: field \"{}\": expected one system message, got another in \"{}\"", place,
                 shape_.field(FieldUse::kSystem), messages_name());
    }
    const std::string& text = own != nullptr ? *own : options_.system;
    if (begins || text.empty()) return;
    chat.messages.insert(chat.messages.begin(), said("system", text));
    chat.given.insert(chat.given.begin(), true);
  }

  const std::string& messages_name() const {
    return shape_.field(shape_.find(FieldUse::kMessages) != nullptr ? FieldUse::kMessages
                                                                    : FieldUse::kAsked);
  }

  // ------------------------------------------------------------------------- without a template

  // Refuses what only a template writes.
  void need_template(const OrderedJson& record, const std::string& place) const {
    refuse_outdated(record, place);
    if (is_chat(record)) {
      fail_input("{}: a conversation, but the model has no chat template: expected --chat-template",
                 place);
    }
    for (const FieldUse use : {FieldUse::kSystem, FieldUse::kHistory, FieldUse::kTools}) {
      const bool plain = use == FieldUse::kSystem && (is("alpaca") || is("openorca"));
      if (plain || shape_.find(use) == nullptr) continue;
      OrderedJson parsed;
      const bool says = use == FieldUse::kSystem ? other_text(record, use, place) != nullptr
                                                 : list_field(record, shape_.field(use), place,
                                                              "a list", parsed) != nullptr;
      if (!says) continue;
      fail_input(
          "{}: field \"{}\": expected a chat template that writes it (--chat-template), got none",
          place, shape_.field(use));
    }
  }

  void write_plain(const OrderedJson& record, const std::string& place, Document& document) const {
    need_template(record, place);
    std::string prompt = needed_text(record, FieldUse::kAsked, place);
    const std::string* const system = other_text(record, FieldUse::kSystem, place);
    if (is("columns")) prompt += "\n";
    if (is("openorca")) {
      prompt = fmt::format("{}### Human:\n{}\n### Assistant:\n",
                           system != nullptr ? "### System:\n" + *system + "\n" : "", prompt);
    }
    if (is("alpaca")) {
      prompt = alpaca_prompt(prompt, text_of(other_text(record, FieldUse::kInput, place)),
                             text_of(system));
    }
    const bool scored = options_.train_on == TrainOn::kEverything;
    // Tokenized apart also where both are scored: the prompt's ids are those that the model will
    // be given.
    document.pieces.push_back({std::move(prompt), scored});
    document.pieces.push_back({needed_text(record, FieldUse::kAnswered, place)});
  }

  static std::string alpaca_prompt(const std::string& instruction, const std::string& input,
                                   const std::string& system) {
    const std::string task = fmt::format(
        "Below is an instruction that describes a task{}. Write a response that appropriately "
        "completes the request.",
        input.empty() ? "" : ", paired with an input that provides further context");
    return fmt::format("{}\n\n### Instruction:\n{}\n\n{}### Response:\n",
                       system.empty() ? task : system, instruction,
                       input.empty() ? "" : "### Input:\n" + input + "\n\n");
  }

  const RecordShape shape_;
  const DocumentOptions options_;
  std::optional<TemplateProbe> probe_;  // where there is a chat template
  std::vector<std::string> described_;  // the fields that the first record has
};

}  // namespace

const std::vector<std::string>& document_formats() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const RecordShape& shape : record_shapes()) all.push_back(shape.name);
    return all;
  }();
  return names;
}

std::unique_ptr<DocumentShape> DocumentShape::of(const OrderedJson& record,
                                                 const std::string& place,
                                                 const DocumentOptions& options) {
  if (!record.is_object()) fail_input("{}: expected a JSON object, got {}", place, brief(record));
  const std::string format = options.columns.empty() ? options.format : "columns";
  const RecordShape& row = format == "auto" ? fitting_shape(record, place) : shape_named(format);
  return std::make_unique<Shape>(row, record, options);
}

}  // namespace tenon
