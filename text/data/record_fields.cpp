// SPDX-License-Identifier: Apache-2.0
#include "text/data/record_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "text/utf8.h"

namespace tenon {
namespace {

// What a field of a list is: the list itself, or the one that a string holds as JSON.
const OrderedJson& list_of(const OrderedJson& field, const std::string& name,
                           const std::string& place, const char* expected, OrderedJson& parsed) {
  if (field.is_array()) return field;
  if (field.is_string()) {
    try {
      parsed = parse_ordered_json(field.get_ref<const std::string&>(), "its text");
      if (parsed.is_array()) return parsed;
    } catch (const Error& error) {
      if (error.code() != Exit::kInput) throw;
      fail_input("{}: field \"{}\": expected {}, or one as JSON in a string, got a string: {}",
                 place, printable(name), expected, error.what());
    }
    fail_input("{}: field \"{}\": expected {}, or one as JSON in a string, got {} in a string",
               place, printable(name), expected, brief(parsed));
  }
  fail_input("{}: field \"{}\": expected {}, got {}", place, printable(name), expected,
             held(field));
}

// Refuses strings within the field that are not UTF-8, and values of types that are not read.
void check_values(const OrderedJson& value, const std::string& name, const std::string& place) {
  const auto check = [&](const std::string& text) {
    if (const size_t valid = valid_utf8_prefix(text); valid != text.size()) {
      fail_input("{}: field \"{}\": expected UTF-8, got other bytes at byte {} of it", place,
                 printable(name), valid);
    }
  };
  if (value.is_string()) check(value.get_ref<const std::string&>());
  if (value.is_binary()) {
    fail_input("{}: field \"{}\": {} is in it, which is not read", place, printable(name),
               held(value));
  }
  if (value.is_array()) {
    for (const OrderedJson& element : value) check_values(element, name, place);
  } else if (value.is_object()) {
    for (const auto& [member_name, member] : value.items()) {
      check(member_name);
      check_values(member, name, place);
    }
  }
}

}  // namespace

const OrderedJson* find_field(const OrderedJson& record, std::string_view path) {
  const OrderedJson* at = &record;
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

std::string held(const OrderedJson& field) {
  if (!field.is_binary()) return brief(field);
  const auto& type = field.get_binary();
  return "a value of the type " + printable(std::string(type.begin(), type.end()));
}

bool says_something(const OrderedJson* field) {
  if (field == nullptr) return false;
  return field->is_string() ? !field->get_ref<const std::string&>().empty() : !field->empty();
}

std::string fields_of(const OrderedJson& record) {
  std::string names;
  for (const auto& [name, value] : record.items()) {
    names += fmt::format("{}\"{}\"{}", names.empty() ? "" : ", ", name,
                         value.is_string()   ? ""
                         : value.is_array()  ? " (a list)"
                         : value.is_binary() ? " (" + held(value) + ")"
                                             : " (not a string)");
  }
  return names.empty() ? "none" : printable(names);
}

const std::string* text_field(const OrderedJson& record, const std::string& name,
                              const std::string& place, bool needed) {
  const OrderedJson* field = find_field(record, name);
  if (field == nullptr || (field->is_null() && !needed)) {
    if (!needed) return nullptr;
    fail_input("{}: field \"{}\": expected a string, got nothing; found: {}", place,
               printable(name), fields_of(record));
  }
  if (!field->is_string()) {
    fail_input("{}: field \"{}\": expected a string, got {}", place, printable(name), held(*field));
  }
  check_values(*field, name, place);
  return &field->get_ref<const std::string&>();
}

const OrderedJson* list_field(const OrderedJson& record, const std::string& name,
                              const std::string& place, const char* expected, OrderedJson& parsed) {
  const OrderedJson* const field = find_field(record, name);
  if (field == nullptr || field->is_null()) return nullptr;
  if (field->is_string() && !says_something(field)) return nullptr;
  const OrderedJson& list = list_of(*field, name, place, expected, parsed);
  if (list.empty()) return nullptr;
  check_values(list, name, place);
  return &list;
}

const OrderedJson* objects_field(const OrderedJson& record, const std::string& name,
                                 const std::string& place, OrderedJson& parsed) {
  const OrderedJson* const list = list_field(record, name, place, "a list of objects", parsed);
  if (list == nullptr) return nullptr;
  for (size_t i = 0; i < list->size(); ++i) {
    if ((*list)[i].is_object()) continue;
    fail_input("{}: field \"{}\": expected a list of objects, got {} in it", place, printable(name),
               brief((*list)[i]));
  }
  return list;
}

void add_member(OrderedJson& object, const std::string& name, OrderedJson value) {
  object.get_ref<OrderedJson::object_t&>().push_back({name, std::move(value)});
}

}  // namespace tenon
