// SPDX-License-Identifier: Apache-2.0
// A record's fields, each read as what it must be. Null counts as absent, and so does an empty
// string where a list is looked for. Every function throws Error(kInput) with place and field, also
// for strings within the field that are not UTF-8 and for values of types that are not read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/json.h"

namespace tenon {

// The field of that name, or what a path of names and indices with dots between leads to; null where
// there is none.
const OrderedJson* find_field(const OrderedJson& record, std::string_view path);

// What a field holds, for messages: as brief() has it.
std::string held(const OrderedJson& field);

// Whether there is something under that name: neither null nor empty.
bool says_something(const OrderedJson* field);

// The names of a record's fields and what they are where they are no strings, for messages.
std::string fields_of(const OrderedJson& record);

// A string in UTF-8. Where it may be missing (not `needed`): null for an absent one.
const std::string* text_field(const OrderedJson& record, const std::string& name,
                              const std::string& place, bool needed);

// A list, which may also be written as JSON in a string: columns whose rows differ are often kept
// so. Null for an absent or an empty one. `parsed` holds what a string was made to.
const OrderedJson* list_field(const OrderedJson& record, const std::string& name,
                              const std::string& place, const char* expected, OrderedJson& parsed);

// The same of objects, as `tools` and `tool_calls` are: templates go through them.
const OrderedJson* objects_field(const OrderedJson& record, const std::string& name,
                                 const std::string& place, OrderedJson& parsed);

// Adds a member to an object that has none of that name: nothing is looked for.
void add_member(OrderedJson& object, const std::string& name, OrderedJson value);

}  // namespace tenon
