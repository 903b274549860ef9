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

// str.replace, and the filter; `limit` < 0: all.
Value replace_text(Heap& heap, std::string_view text, std::string_view what, std::string_view by,
                   int64_t limit);

}  // namespace tenon::jinja
