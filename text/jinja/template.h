// SPDX-License-Identifier: Apache-2.0
// A template that can be written out: Jinja2 as transformers sets it up for chat templates
// (trim_blocks, lstrip_blocks, break and continue, {% generation %}, raise_exception(),
// strftime_now(), namespace(), dict(), tojson), within bounds of time and memory.
//
// What Jinja2 knows and this does not is refused by name: other templates (extends, block, include,
// import), recursive loops, autoescape, some filters and methods, integers beyond 64 bits.
#pragma once

#include <ctime>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/tree.h"

namespace tenon::jinja {

// What a template wrote, and where its {% generation %} blocks stand in it.
struct Written {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generations;  // begin and end, in bytes
  bool generations_known = true;  // false: one was written within a macro, filter or set block
};

class Template {
 public:
  static constexpr int64_t kMaxBytes = 1 << 20;

  // `where` begins messages: a file or a name. Throws Error(kInput) with the line.
  static Template parse(std::string_view source, const std::string& where);

  using Variables = std::vector<std::pair<std::string, nlohmann::ordered_json>>;
  // The last of equal names counts. `now`: what strftime_now() shows. Safe to be called from many
  // threads. Throws Error(kInput) with the line and what the template raised.
  Written write(const Variables& variables, const std::tm& now) const;

  bool has_generation() const { return tree_.has_generation; }

 private:
  Template(Tree tree, std::string where) : tree_(std::move(tree)), where_(std::move(where)) {}
  Tree tree_;
  std::string where_;
};

}  // namespace tenon::jinja
