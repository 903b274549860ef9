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
#include <vector>

#include "text/jinja/origins.h"
#include "text/jinja/tree.h"

namespace tenon::jinja {

// A variable that a template is given.
struct Variable {
  enum class Source : uint8_t {
    kTemplate,  // counts as the template's own: special tokens, what the caller decides
    kMessages,  // a list of messages: the origin of what is in each is that message
    kOther,     // what people fill
  };
  std::string name;
  const nlohmann::ordered_json* value;  // not null
  Source source = Source::kTemplate;
};

// What a template wrote, and where it comes from.
//
// Loops over messages write a message after the other, so their iterations are told apart. All that
// is written within an iteration, by macros and loops in it too, has its number: that of the
// outermost loop whose item is a message (or a dict made of the fields of one), which then owns the
// iteration; where there is none, that of the outermost loop, which nobody owns. What was set to a
// variable in an owned iteration keeps that number wherever it is written.
struct Written {
  std::string text;
  Origins origins;              // of its bytes
  std::vector<int64_t> owners;  // owners[i - 1]: the message that owns iteration i, or -1
};

class Template {
 public:
  static constexpr int64_t kMaxBytes = 1 << 20;

  // `where` begins messages: a file or a name. Throws Error(kInput) with the line.
  static Template parse(std::string_view source, const std::string& where);

  using Variables = std::vector<Variable>;
  // The last of equal names counts. `now`: what strftime_now() shows. Safe to be called from many
  // threads. Throws Error(kInput) with the line and what the template raised.
  Written write(const Variables& variables, const std::tm& now) const;

 private:
  Template(Tree tree, std::string where) : tree_(std::move(tree)), where_(std::move(where)) {}
  Tree tree_;
  std::string where_;
};

}  // namespace tenon::jinja
