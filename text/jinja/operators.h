// SPDX-License-Identifier: Apache-2.0
// What Python's operators do with values, within Jinja2's sandbox. All throw Fault where Python
// raises, and where an undefined value is used for more than its text, its truth or being empty.
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/text_builder.h"
#include "text/jinja/tree.h"
#include "text/jinja/value.h"

namespace tenon::jinja {

bool truth(const Value& value);
bool equal(Heap& heap, const Value& a, const Value& b);
// <, <=, > or >=.
bool ordered(Heap& heap, Comparison comparison, const Value& a, const Value& b);
bool contains(Heap& heap, const Value& container, const Value& item);
// kAdd to kPower.
Value arithmetic(Heap& heap, Operation operation, const Value& a, const Value& b);
Value negative(const Value& value);

// str(), a string as it is, and repr(); what json.dumps() makes of a value. What stands around and
// between texts in them comes from where the dict or list comes from.
Value to_text(Heap& heap, const Value& value);
void append_text(Heap& heap, const Value& value, TextBuilder& out);
Value to_repr(Heap& heap, const Value& value);
std::string number_text(double value);
// `format % values`. Requires: format is a string.
Value format_percent(Heap& heap, const Value& format, const Value& values);
struct JsonStyle {
  bool ascii = false, sort_keys = false;
  bool pretty = false;
  std::string indent;  // of a level, where pretty
  std::string item_separator = ", ", key_separator = ": ";
};
Value to_json(Heap& heap, const Value& value, const JsonStyle& style);

// len(); Fault where there is none.
int64_t length(const Value& value);
// A sequence of what iterating over the value gives. A generator is consumed; what it raises at its
// end is thrown, or put into `fault` where that is not null.
Value items_of(Heap& heap, const Value& value, std::string* fault = nullptr);

// The value of a key, or null.
const Value* find(Heap& heap, const Dict& dict, const Value& key);
// Throws Fault for what cannot be a key.
void check_key(const Value& key);
// Adds an entry, or replaces the value of an equal key.
void assign(Heap& heap, Dict::Entries& entries, const Value& key, const Value& value);

// value.name and value[index], undefined where there is none. value[start:stop:step], where None
// stands for what is left out, throws Fault where there is no such slice.
Value attribute(Heap& heap, const Value& value, std::string_view name);
Value item(Heap& heap, const Value& value, const Value& index);
Value slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
            const Value& step);

// The method of that name, bound to the value; None where it has none. Throws Fault for Python's
// methods that are not supported.
Value method(Heap& heap, const Value& value, std::string_view name);

// A dict that a template makes. It is the message's whose fields its values are, where all that
// come from a message come from the same.
Value dict_of_fields(Heap& heap, Dict::Entries entries);

[[noreturn]] void fail_undefined(const Value& value);
// An integer argument. Throws Fault for what is none.
int64_t to_index(const Value& value, std::string_view what);

}  // namespace tenon::jinja
