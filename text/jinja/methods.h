// SPDX-License-Identifier: Apache-2.0
// The methods of values, in tables by name.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/value.h"

namespace tenon::jinja {

struct Method {
  std::string_view name;
  Value (*call)(Heap& heap, const Value& self, const Arguments& arguments);  // null: not supported
};

std::span<const Method> text_methods();

// What methods and filters of the same name share. Values are strings.
// str.replace; `limit` < 0: all.
Value replace_text(Heap& heap, const Value& text, std::string_view what, const Value& by,
                   int64_t limit);
// A text whose characters become others one by one, each from where it was. Requires: how long the
// beginning of what it becomes is does not depend on what follows.
Value map_text(Heap& heap, const Value& text, std::string (*function)(std::string_view));

}  // namespace tenon::jinja
