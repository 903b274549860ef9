// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/parameters.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "text/jinja/operators.h"

namespace tenon::jinja {

Parameters::Parameters(std::string_view function, const Arguments& arguments,
                       std::initializer_list<std::string_view> names, size_t required)
    : function_(function) {
  if (arguments.positional.size() > names.size()) {
    throw Fault(fmt::format("{}: expected at most {} arguments, got {}", function, names.size(),
                            arguments.positional.size()));
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto* found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      throw Fault(
          fmt::format("{}: the argument \"{}\" is not supported", function, printable(name, 40)));
    }
    const Value*& place = values_[found - names.begin()];
    if (place) throw Fault(fmt::format("{}: the argument \"{}\" is there twice", function, name));
    place = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) {
      throw Fault(
          fmt::format("{}: the argument \"{}\" is missing", function, *(names.begin() + i)));
    }
  }
}

const Value* Parameters::find_not_none(size_t parameter) const {
  const Value* value = values_[parameter];
  return value && value->is(Kind::kNone) ? nullptr : value;
}

int64_t Parameters::integer(size_t parameter, int64_t fallback) const {
  return values_[parameter] ? to_index(at(parameter), function_) : fallback;
}

std::string_view Parameters::text(size_t parameter, std::string_view fallback) const {
  const Value* value = values_[parameter];
  if (!value) return fallback;
  if (value->is(Kind::kUndefined)) fail_undefined(*value);
  if (!value->is(Kind::kString)) {
    throw Fault(fmt::format("{}: expected a string, got {}", function_, type_name(*value)));
  }
  return value->bytes();
}

bool Parameters::truth(size_t parameter, bool fallback) const {
  return values_[parameter] ? jinja::truth(at(parameter)) : fallback;
}

}  // namespace tenon::jinja
