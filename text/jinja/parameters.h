// SPDX-License-Identifier: Apache-2.0
// The arguments of a function of ours, by the names that Python or Jinja2 give its parameters.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "text/jinja/value.h"

namespace tenon::jinja {

class Parameters {
 public:
  // Throws Fault for arguments that are too many, twice there, of another name, or where one of the
  // first `required` is missing. `function` is for messages.
  Parameters(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t required = 0);

  // Null where it was not given.
  const Value* find(size_t parameter) const { return values_[parameter]; }
  const Value& at(size_t parameter) const { return *values_[parameter]; }  // of one required
  // As find(), where None counts as not given.
  const Value* find_not_none(size_t parameter) const;
  // Throw Fault for values of other kinds.
  int64_t integer(size_t parameter, int64_t fallback) const;
  std::string_view text(size_t parameter, std::string_view fallback) const;
  bool truth(size_t parameter, bool fallback) const;

 private:
  std::string function_;
  static constexpr size_t kMost = 6;
  const Value* values_[kMost] = {};
};

}  // namespace tenon::jinja
