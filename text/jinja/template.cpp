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

Value to_value(Heap& heap, const OrderedJson& json, int depth) {
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
      return heap.text(text);
    }
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      for (const auto& item : json) items.push_back(to_value(heap, item, depth + 1));
      return heap.list(std::move(items));
    }
    case OrderedJson::value_t::object: {
      Dict::Entries entries;
      for (const auto& [key, value] : json.items()) {
        entries.emplace_back(heap.text(key), to_value(heap, value, depth + 1));
      }
      return heap.dict(std::move(entries));
    }
    default: return {};
  }
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
    for (const auto& [name, json] : variables) {
      if (interpreter.knows(name)) interpreter.set(name, to_value(heap, json, 1));
    }
    return interpreter.run();
  } catch (const Fault& fault) {
    fail_input("{}:{}: {}", where_, interpreter.line(), in_one_line(fault));
  }
}

}  // namespace tenon::jinja
