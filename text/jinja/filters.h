// SPDX-License-Identifier: Apache-2.0
// Jinja2's filters and tests by name.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/value.h"

namespace tenon::jinja {

struct Filter {
  std::string_view name;
  Value (*apply)(Heap& heap, const Value& input,
                 const Arguments& arguments);  // null: not supported
};
struct Test {
  std::string_view name;
  bool (*holds)(Heap& heap, const Value& input, const Arguments& arguments);
};

// Throw Fault for what is not there.
const Filter& find_filter(std::string_view name);
const Test& find_test(std::string_view name);
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

std::span<const Filter> text_filters();
std::span<const Filter> number_filters();
std::span<const Filter> sequence_filters();

// A part of each item, as `attribute` of filters names it: "role", "function.name", "0", 0.
Value part_of(Heap& heap, const Value& item, const Value& attribute, const Value* fallback);

}  // namespace tenon::jinja
