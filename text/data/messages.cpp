// SPDX-License-Identifier: Apache-2.0
#include "text/data/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "text/data/record_fields.h"

namespace tenon {
namespace {

// A name of a role, and the role: under ShareGPT's "from", and under "role", where names that some
// model's own template has stay what they are.
struct Role {
  const char* name;
  const char* from;
  const char* role;
};
constexpr Role kRoles[] = {
    {"system", "system", "system"},
    {"developer", "developer", "developer"},
    {"user", "user", "user"},
    {"human", "user", "user"},
    {"assistant", "assistant", "assistant"},
    {"gpt", "assistant", "assistant"},
    {"chatgpt", "assistant", "assistant"},
    {"bing", "assistant", "assistant"},
    {"bard", "assistant", "assistant"},
    {"model", "assistant", "assistant"},
    {"function_call", "assistant", "assistant"},
    {"tool", "tool", "tool"},
    {"observation", "tool", "observation"},
    {"function_response", "tool", "tool"},
    {"function", "tool", "function"},
    {"ipython", "ipython", "ipython"},
    {"context", "context", "context"},
    {"document", "document", "document"},
    {"documents", "documents", "documents"},
};

const char* role_of(const std::string& name, const char* field, const std::string& place) {
  for (const Role& role : kRoles) {
    if (name == role.name) return field == std::string_view("from") ? role.from : role.role;
  }
  std::string known;
  for (const Role& role : kRoles)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", role.name);
  fail_input("{}: field \"{}\": expected one of {}, got \"{}\"", place, field, known,
             printable(name));
}

// A list of parts as what the template reads.
OrderedJson joined(const OrderedJson& parts, const std::string& place, const TemplateProbe& probe) {
  OrderedJson list = OrderedJson::array();
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string here = fmt::format("{}: content[{}]", place, i);
    if (!parts[i].is_object()) {
      fail_input("{}: expected an object of type and text, got {}", here, brief(parts[i]));
    }
    const std::string* const type = text_field(parts[i], "type", here, false);
    if (type != nullptr && *type != "text") {
      fail_input("{}: field \"type\": expected \"text\", got \"{}\"", here, printable(*type));
    }
    const std::string& part = *text_field(parts[i], "text", here, true);
    list.push_back({{"type", "text"}, {"text", part}});
    text += part;
  }
  return probe.reads_parts() ? list : OrderedJson(text);
}

// What is said where `tool_calls` may say the rest; nothing where the message has no content.
OrderedJson content_of(const OrderedJson& turn, const char* field, bool calls,
                       const std::string& place, const TemplateProbe& probe) {
  const OrderedJson* const content = find_field(turn, field);
  const bool parts = content != nullptr && content->is_array() && !content->empty();
  if (parts) return joined(*content, place, probe);
  if (content != nullptr && content->is_string()) return *text_field(turn, field, place, true);
  const bool nothing = content == nullptr || content->is_null() || content->is_array();
  if (!nothing || !calls) {
    fail_input("{}: field \"{}\": expected a string, got {}", place, field,
               content == nullptr    ? "nothing"
               : content->is_array() ? "an empty list"
                                     : brief(*content));
  }
  if (!probe.writes_calls()) {
    fail_input(
        "{}: the message says nothing but \"tool_calls\", of which the chat template {} "
        "writes nothing",
        place, probe.chat().source());
  }
  return probe.writes_null() ? OrderedJson("") : OrderedJson();
}

// False where the turn says that it is not to be learnt.
bool is_learnt(const OrderedJson& turn, bool assistant, const std::string& place) {
  bool learnt = true;
  for (const char* name : {"weight", "train", "loss"}) {
    const OrderedJson* const field = find_field(turn, name);
    if (field == nullptr || field->is_null()) continue;
    const bool no = *field == false || *field == 0, yes = *field == true || *field == 1;
    if (!no && !yes) {
      fail_input("{}: field \"{}\": expected 0 (not to be learnt) or 1, got {}", place, name,
                 brief(*field));
    }
    if (yes && !assistant && field->is_boolean()) {
      fail_input("{}: field \"{}\": expected a turn of the assistant to be learnt, got another",
                 place, name);
    }
    learnt = learnt && yes;
  }
  for (const char* name : {"train_detail", "training_detail"}) {
    if (!says_something(find_field(turn, name))) continue;
    fail_input("{}: field \"{}\": expected \"train\" for the turn as a whole", place, name);
  }
  return learnt;
}

// The calls that ShareGPT's "function_call" holds as JSON: one, or a list of them.
std::optional<OrderedJson> calls_in(const std::string& text) {
  OrderedJson value;
  try {
    value = parse_ordered_json(text, "");
  } catch (const Error& error) {
    if (error.code() != Exit::kInput) throw;
    return std::nullopt;
  }
  if (!value.is_array()) value = OrderedJson::array({value});
  OrderedJson calls = OrderedJson::array();
  for (OrderedJson& call : value) {
    if (!call.is_object() || !call.contains("name")) return std::nullopt;
    calls.push_back({{"type", "function"}, {"function", std::move(call)}});
  }
  return calls;
}

struct Message {
  OrderedJson message;
  bool learnt = true;
};

Message message_of(const OrderedJson& turn, const std::string& place, const TemplateProbe& probe) {
  if (!turn.is_object()) fail_input("{}: expected an object, got {}", place, brief(turn));
  const char* const who = !turn.contains("role") && turn.contains("from") ? "from" : "role";
  const char* const what =
      !turn.contains("content") && turn.contains("value") ? "value" : "content";
  const std::string& name = *text_field(turn, who, place, true);
  const char* const role = role_of(name, who, place);
  const bool assistant = role == std::string_view("assistant");
  if (says_something(find_field(turn, "function_call"))) {
    fail_input("{}: field \"function_call\": expected \"tool_calls\" in its place", place);
  }
  Message result = {OrderedJson::object(), is_learnt(turn, assistant, place)};
  OrderedJson parsed;
  const OrderedJson* const calls = objects_field(turn, "tool_calls", place, parsed);
  OrderedJson content = content_of(turn, what, assistant && calls != nullptr, place, probe);
  OrderedJson& message = result.message;
  for (const auto& [key, value] : turn.items()) {
    if (key == who) {
      add_member(message, "role", role);
    } else if (key == what) {
      add_member(message, "content", content);
    } else if (key != "tool_calls") {
      add_member(message, key, value);
    } else if (calls != nullptr) {
      add_member(message, key, *calls);
    }
  }
  if (name == "function_call" && probe.writes_calls() && message["content"].is_string()) {
    if (auto inside = calls_in(message["content"].get_ref<const std::string&>())) {
      message.erase("content");
      message["tool_calls"] = std::move(*inside);
    }
  }
  return result;
}

}  // namespace

OrderedJson said(const char* role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

void add_messages(const OrderedJson& record, const std::string& field, const std::string& place,
                  bool given, const TemplateProbe& probe, Conversation& chat) {
  OrderedJson parsed;
  const OrderedJson* const list = list_field(record, field, place, "a list of messages", parsed);
  if (list == nullptr) {
    const OrderedJson* const found = find_field(record, field);
    fail_input("{}: field \"{}\": expected a list of messages, got {}", place, field,
               found == nullptr    ? "nothing"
               : found->is_array() ? "an empty one"
                                   : brief(*found));
  }
  for (size_t i = 0; i < list->size(); ++i) {
    Message next = message_of((*list)[i], fmt::format("{}: {}[{}]", place, field, i), probe);
    chat.messages.push_back(std::move(next.message));
    chat.given.push_back(given || !next.learnt);
  }
}

void add_message(OrderedJson message, Conversation& chat) {
  chat.messages.push_back(std::move(message));
  chat.given.push_back(false);
}

bool says(const OrderedJson& message, const char* role) {
  const auto found = message.find("role");
  return found != message.end() && *found == role;
}

}  // namespace tenon
