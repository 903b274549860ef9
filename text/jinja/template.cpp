// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/template.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/lexer.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

using OrderedJson = nlohmann::ordered_json;

// A fault's words on one line; a template may raise any.
std::string in_one_line(const Fault& fault) { return printable(fault.what(), 500); }

Value to_value(Heap& heap, const OrderedJson& json, const Origin& origin, int depth);

Value dict_value(Heap& heap, const OrderedJson& json, const Origin& origin, int depth) {
  Dict::Entries entries;
  for (const auto& [key, value] : json.items()) {
    entries.emplace_back(heap.text(key, Origins(origin)), to_value(heap, value, origin, depth + 1));
  }
  Value value = heap.dict(std::move(entries));
  static_cast<Dict&>(*value.object()).origin = origin;
  return value;
}

Value to_value(Heap& heap, const OrderedJson& json, const Origin& origin, int depth) {
  Heap::checked_depth(depth);
  switch (json.type()) {
    case OrderedJson::value_t::boolean: return Value::boolean(json.get<bool>());
    case OrderedJson::value_t::number_integer: return Value::integer(json.get<int64_t>());
    case OrderedJson::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) throw Fault("an integer does not fit in 64 bits");
      return Value::integer(json.get<int64_t>());
    case OrderedJson::value_t::number_float: return Value::number(json.get<double>());
    case OrderedJson::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (valid_utf8_prefix(text) != text.size()) throw Fault("a text is not UTF-8");
      return heap.text(text, Origins(origin));
    }
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(to_value(heap, item, origin, depth + 1));
      Value value = heap.list(std::move(items));
      static_cast<Sequence&>(*value.object()).origin = origin;
      return value;
    }
    case OrderedJson::value_t::object: return dict_value(heap, json, origin, depth);
    default: return {};
  }
}

// A message is an object; what is not is a value as others are.
Value message_value(Heap& heap, const OrderedJson& json, uint32_t number) {
  constexpr int kDepth = 2;  // it is in a list
  const Origin origin{.kind = Origin::Kind::kMessage, .number = number};
  if (!json.is_object()) return to_value(heap, json, origin, kDepth);
  Origin of_role = origin;
  of_role.kind = Origin::Kind::kRole;
  Dict::Entries entries;
  for (const auto& [key, value] : json.items()) {
    entries.emplace_back(heap.text(key, Origins(origin)),
                         to_value(heap, value, key == "role" ? of_role : origin, kDepth + 1));
  }
  Value value = heap.dict(std::move(entries));
  auto& dict = static_cast<Dict&>(*value.object());
  dict.origin = origin;
  dict.is_message = true;
  return value;
}

Value messages_value(Heap& heap, const OrderedJson& json) {
  if (!json.is_array()) return to_value(heap, json, {.kind = Origin::Kind::kOther}, 1);
  std::vector<Value> messages;
  for (const auto& one : json) {
    messages.push_back(message_value(heap, one, static_cast<uint32_t>(messages.size())));
  }
  return heap.list(std::move(messages));
}

// `place`: which of the variables it is.
Value value_of(Heap& heap, const Variable& variable, size_t place) {
  if (variable.source == Variable::Source::kMessages) return messages_value(heap, *variable.value);
  Origin origin;
  if (variable.source == Variable::Source::kOther) {
    origin.kind = Origin::Kind::kOther;
  } else {
    // A number that no literal has: a template has fewer of them than bytes.
    origin.number = static_cast<uint32_t>(Template::kMaxBytes + 1 + static_cast<int64_t>(place));
  }
  return to_value(heap, *variable.value, origin, 1);
}

}  // namespace

Template Template::parse(std::string_view source, const std::string& where) {
  if (source.size() > kMaxBytes) {
    fail_input("{}: expected a template of at most {} bytes, got {}", where, kMaxBytes,
               source.size());
  }
  const size_t valid = valid_utf8_prefix(source);
  if (valid != source.size()) fail_input("{}: byte {} is not UTF-8", where, valid);
  try {
    return {jinja::parse(source), where};
  } catch (const SyntaxFault& fault) {
    fail_input("{}:{}: {}", where, fault.line, in_one_line(fault));
  }
}

Written Template::write(const Variables& variables, const std::tm& now) const {
  Heap heap;
  Interpreter interpreter(tree_, heap, now);
  try {
    for (size_t i = 0; i < variables.size(); ++i) {
      const std::string& name = variables[i].name;
      if (interpreter.knows(name)) interpreter.set(name, value_of(heap, variables[i], i));
    }
    return interpreter.run();
  } catch (const Fault& fault) {
    fail_input("{}:{}: {}", where_, interpreter.line(), in_one_line(fault));
  }
}

}  // namespace tenon::jinja
