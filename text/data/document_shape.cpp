// SPDX-License-Identifier: Apache-2.0
#include "text/data/document_shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "text/data/chat_document.h"
#include "text/utf8.h"

namespace tenon {
namespace {

using OrderedJson = nlohmann::ordered_json;  // templates may write keys out

// How a shape is recognised: by the fields that a record must have; `others` may be there or not.
struct ShapeRow {
  const char* name;
  std::vector<const char*> fields, others;
};
const std::vector<ShapeRow> kShapes = {
    {"text", {"text"}, {}},
    {"prompt-completion", {"prompt", "completion"}, {}},
    {"alpaca", {"instruction", "output"}, {"input"}},
    {"chat", {"messages"}, {"tools"}},
    {"sharegpt", {"conversations"}, {}},
    {"openorca", {"question", "response"}, {"system_prompt"}},
    {"columns", {"question", "answer"}, {}},
};

const ShapeRow* shape_named(const std::string& name) {
  for (const ShapeRow& row : kShapes) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

// The field of that name, or what a path of names and indices with dots between leads to.
const Json* find_field(const Json& record, std::string_view path) {
  const Json* at = &record;
  if (const auto whole = record.find(path); whole != record.end()) return &*whole;
  while (!path.empty()) {
    const std::string_view step = path.substr(0, path.find('.'));
    path.remove_prefix(std::min(path.size(), step.size() + 1));
    if (at->is_object()) {
      const auto found = at->find(step);
      if (found == at->end()) return nullptr;
      at = &*found;
    } else {
      size_t index = 0;
      const auto [end, error] = std::from_chars(step.data(), step.data() + step.size(), index);
      if (!at->is_array() || error != std::errc() || end != step.data() + step.size() ||
          index >= at->size()) {
        return nullptr;
      }
      at = &(*at)[index];
    }
  }
  return at;
}

std::string fields_of(const Json& record) {
  std::string names;
  for (const auto& [name, value] : record.items()) {
    names += fmt::format("{}\"{}\"{}", names.empty() ? "" : ", ", name,
                         value.is_string()  ? ""
                         : value.is_array() ? " (a list)"
                                            : " (not a string)");
  }
  return names.empty() ? "none" : printable(names);
}

bool has_fields(const Json& record, const ShapeRow& row) {
  for (const char* field : row.fields) {
    const Json* value = find_field(record, field);
    if (value == nullptr || !(value->is_string() || value->is_array())) return false;
  }
  return true;
}

// The shape that fits. "text" is what others may carry beside their own fields (the whole prompt
// written out), so it gives way, but not to a prompt and its completion: that is anyone's guess.
const ShapeRow& fitting_shape(const Json& record, const std::string& place) {
  std::vector<const ShapeRow*> fitting;
  for (const ShapeRow& row : kShapes) {
    if (has_fields(record, row)) fitting.push_back(&row);
  }
  if (fitting.size() > 1 && fitting[0]->name == std::string("text") &&
      fitting[1]->name != std::string("prompt-completion")) {
    fitting.erase(fitting.begin());
  }
  if (fitting.size() == 1) return *fitting[0];
  if (fitting.empty()) {
    std::string known;
    for (const ShapeRow& row : kShapes) {
      known += fmt::format("{}{}", known.empty() ? "" : ", or ", fmt::join(row.fields, " and "));
    }
    fail_input("{}: expected the fields {} (--columns names any two); found: {}", place, known,
               fields_of(record));
  }
  std::string names;
  for (const ShapeRow* row : fitting)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", row->name);
  fail_input(
      "{}: expected a record of one shape, got fields of several: --format must say which of {}",
      place, names);
}

// A field of text. Absent and null are nothing where the field may be missing.
const std::string* text_field(const Json& record, const std::string& name, const std::string& place,
                              bool required) {
  const Json* field = find_field(record, name);
  if (field == nullptr || (field->is_null() && !required)) {
    if (!required) return nullptr;
    fail_input("{}: field \"{}\": expected a string, got nothing; found: {}", place,
               printable(name), fields_of(record));
  }
  if (!field->is_string()) {
    fail_input("{}: field \"{}\": expected a string, got {}", place, printable(name),
               brief(*field));
  }
  const std::string& text = field->get_ref<const std::string&>();
  if (const size_t valid = valid_utf8_prefix(text); valid != text.size()) {
    fail_input("{}: field \"{}\": expected UTF-8, got other bytes at byte {} of it", place,
               printable(name), valid);
  }
  return &text;
}

// ------------------------------------------------------------------------------ conversations

struct Role {
  const char* from;
  const char* role;
};
constexpr Role kRoles[] = {
    {"human", "user"},          {"user", "user"},         {"gpt", "assistant"},
    {"assistant", "assistant"}, {"chatgpt", "assistant"}, {"bing", "assistant"},
    {"bard", "assistant"},      {"model", "assistant"},   {"system", "system"},
    {"tool", "tool"},           {"observation", "tool"},  {"function_response", "tool"},
};

// A turn as templates want it, whether it says role and content or from and value.
Json message_of(const Json& turn, const std::string& place) {
  if (!turn.is_object()) fail_input("{}: expected an object, got {}", place, brief(turn));
  if (turn.contains("role") || !turn.contains("from")) {
    text_field(turn, "role", place, true);
    const Json* content = find_field(turn, "content");
    if (content != nullptr && content->is_string()) text_field(turn, "content", place, true);
    const bool says = content != nullptr && (content->is_string() || content->is_array());
    if (!says && !turn.contains("tool_calls")) {
      fail_input("{}: field \"content\": expected a string, got {}", place,
                 content == nullptr ? "nothing" : brief(*content));
    }
    return turn;
  }
  const std::string& from = *text_field(turn, "from", place, true);
  const std::string& value = *text_field(turn, "value", place, true);
  for (const Role& role : kRoles) {
    if (from == role.from) return {{"role", role.role}, {"content", value}};
  }
  std::string known;
  for (const Role& role : kRoles)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", role.from);
  fail_input("{}: field \"from\": expected one of {}, got \"{}\"", place, known, printable(from));
}

Json messages_of(const Json& list, const std::string& field, const std::string& place) {
  if (!list.is_array() || list.empty()) {
    fail_input("{}: field \"{}\": expected a list of messages, got {}", place, field,
               list.is_array() ? "an empty one" : brief(list));
  }
  Json messages = Json::array();
  for (size_t i = 0; i < list.size(); ++i) {
    messages.push_back(message_of(list[i], fmt::format("{}: {}[{}]", place, field, i)));
  }
  return messages;
}

OrderedJson said(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

// ------------------------------------------------------------------------------------- shapes

// What is asked and what is answered.
struct Question {
  std::string system, prompt, answer;
  bool has_system = false;
};

class Shape : public DocumentShape {
 public:
  Shape(const ShapeRow& row, const DocumentOptions& options)
      : kind_(row.name), row_(row), options_(options) {
    if (kind_ == "columns") {
      columns_ = options.columns;
      if (columns_.empty()) columns_ = {"question", "answer"};
    }
  }

  bool fits(const Json& record) const override {
    const bool found = options_.format == "auto" && options_.columns.empty();
    return !found || !record.is_object() || has_fields(record, row_);
  }

  void write(const Json& record, std::string_view text, const std::string& place,
             Document& document) const override {
    document.pieces.clear();
    document.place = place;
    document.framed = true;
    document.sample = kind_ != "text";
    if (!record.is_object()) fail_input("{}: expected a JSON object, got {}", place, brief(record));
    if (kind_ == "text") {
      document.pieces.push_back({*text_field(record, "text", place, true), true});
    } else if (is_chat(record)) {
      if (options_.chat_template == nullptr) {
        fail_input(
            "{}: a conversation, but the model has no chat template: expected --chat-template",
            place);
      }
      Conversation chat = conversation(record, text, place);
      add_system(chat);
      write_chat(chat, options_, place, document);
    } else {
      write_question(question(record, place), place, document);
    }
  }

  std::string description() const override {
    std::vector<std::string> fields(row_.fields.begin(), row_.fields.end());
    if (kind_ == "alpaca") fields.insert(fields.begin() + 1, "input");
    if (kind_ == "openorca") fields.insert(fields.begin(), "system_prompt");
    if (kind_ == "columns") fields = columns_;
    std::string text =
        fmt::format("{} ({})", kind_, printable(fmt::format("{}", fmt::join(fields, ", "))));
    if (kind_ == "text") return text;
    if (options_.chat_template != nullptr) {
      return text + ", written by the chat template " + options_.chat_template->source();
    }
    if (kind_ == "alpaca") return text + ", written as Alpaca's prompt";
    if (kind_ == "openorca") return text + ", under \"### System, Human, Assistant\"";
    if (kind_ == "columns") return text + ", a newline between";
    return text + ", as it is";
  }

 private:
  bool is_chat(const Json& record) const {
    if (kind_ == "chat" || kind_ == "sharegpt") return true;
    if (kind_ != "prompt-completion") return false;
    const Json* prompt = find_field(record, "prompt");
    return prompt != nullptr && prompt->is_array();
  }

  Conversation conversation(const Json& record, std::string_view text,
                            const std::string& place) const {
    const auto list = [&](const char* field) {
      const Json* found = find_field(record, field);
      return messages_of(found == nullptr ? Json() : *found, field, place);
    };
    Conversation chat;
    if (kind_ == "prompt-completion") {
      chat.messages = list("prompt");
      chat.given.assign(chat.messages.size(), true);
      for (const Json& turn : list("completion")) chat.messages.push_back(OrderedJson(turn));
      chat.given.resize(chat.messages.size(), false);
      return chat;
    }
    Json messages = list(row_.fields[0]);
    if (kind_ == "sharegpt") drop_leading_answer(messages);
    chat.messages = messages;
    const Json* const tools = find_field(record, "tools");
    const bool calls = std::any_of(messages.begin(), messages.end(),
                                   [](const Json& turn) { return turn.contains("tool_calls"); });
    if (tools != nullptr && !tools->is_null()) chat.extra = {{"tools", *tools}};
    if (kind_ == "chat" && !text.empty() && (calls || !chat.extra.is_null())) {
      // Templates write tools and calls out as JSON, keys in the order of the file.
      const OrderedJson ordered = OrderedJson::parse(text);
      chat.messages = ordered.at("messages");
      if (!chat.extra.is_null()) chat.extra["tools"] = ordered.at("tools");
    }
    return chat;
  }

  // ShareGPT's exports cut long conversations in pieces, which may begin with an answer.
  static void drop_leading_answer(Json& messages) {
    const size_t first = messages[0]["role"] == "system" ? 1 : 0;
    if (messages.size() > first && messages[first]["role"] == "assistant") messages.erase(first);
  }

  void add_system(Conversation& chat) const {
    if (options_.system.empty()) return;
    if (!chat.messages.empty() && chat.messages[0].value("role", "") == "system") return;
    chat.messages.insert(chat.messages.begin(), said("system", options_.system));
    if (!chat.given.empty()) chat.given.insert(chat.given.begin(), true);
  }

  Question question(const Json& record, const std::string& place) const {
    const auto text = [&](const std::string& name) {
      return *text_field(record, name, place, true);
    };
    if (kind_ == "columns") return {"", text(columns_[0]), text(columns_[1])};
    if (kind_ == "prompt-completion") return {"", text("prompt"), text("completion")};
    if (kind_ == "openorca") {
      const std::string* system = text_field(record, "system_prompt", place, false);
      const bool has_system = system != nullptr && !system->empty();
      return {has_system ? *system : "", text("question"), text("response"), has_system};
    }
    const std::string* input = text_field(record, "input", place, false);
    const bool has_input = input != nullptr && !input->empty();
    const std::string instruction = text("instruction");
    if (options_.chat_template != nullptr) {
      return {"", has_input ? instruction + "\n\n" + *input : instruction, text("output")};
    }
    return {"",
            fmt::format("Below is an instruction that describes a task{}. Write a response that "
                        "appropriately completes the request.\n\n### Instruction:\n{}\n\n{}"
                        "### Response:\n",
                        has_input ? ", paired with an input that provides further context" : "",
                        instruction, has_input ? "### Input:\n" + *input + "\n\n" : ""),
            text("output")};
  }

  void write_question(const Question& asked, const std::string& place, Document& document) const {
    if (options_.chat_template != nullptr) {
      Conversation chat;
      if (asked.has_system) chat.messages.push_back(said("system", asked.system));
      chat.messages.push_back(said("user", asked.prompt));
      chat.messages.push_back(said("assistant", asked.answer));
      add_system(chat);
      return write_chat(chat, options_, place, document);
    }
    std::string prompt = asked.prompt;
    if (kind_ == "columns") prompt += "\n";
    if (kind_ == "openorca") {
      prompt = fmt::format("{}### Human:\n{}\n### Assistant:\n",
                           asked.has_system ? "### System:\n" + asked.system + "\n" : "", prompt);
    }
    const bool scored = options_.train_on == TrainOn::kEverything;
    // Tokenized apart also where both are scored: the prompt's ids are those that the model will
    // be given.
    document.pieces.push_back({std::move(prompt), scored});
    document.pieces.push_back({asked.answer, true});
  }

  std::string kind_;
  const ShapeRow& row_;
  const DocumentOptions options_;
  std::vector<std::string> columns_;
};

}  // namespace

const std::vector<std::string>& document_formats() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const ShapeRow& row : kShapes) all.push_back(row.name);
    return all;
  }();
  return names;
}

std::unique_ptr<DocumentShape> DocumentShape::of(const Json& record, const std::string& place,
                                                 const DocumentOptions& options) {
  if (!record.is_object()) fail_input("{}: expected a JSON object, got {}", place, brief(record));
  const bool by_columns = !options.columns.empty();
  if (by_columns && options.columns.size() != 2) {
    fail_input("--columns: expected two names, what is asked and what is answered, got {}",
               options.columns.size());
  }
  const std::string format = by_columns ? "columns" : options.format;
  const ShapeRow& row = format == "auto" ? fitting_shape(record, place) : *shape_named(format);
  return std::make_unique<Shape>(row, options);
}

}  // namespace tenon
