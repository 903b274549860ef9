// SPDX-License-Identifier: Apache-2.0
// The tokens of a template, as Jinja2 forms them with trim_blocks and lstrip_blocks: what white
// space around tags belongs to the text is decided here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace tenon::jinja {

struct Token {
  enum class Kind : uint8_t {
    kData,           // text between tags
    kBlockBegin,     // {%
    kBlockEnd,       // %}
    kVariableBegin,  // {{
    kVariableEnd,    // }}
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  int line;
  std::string text;  // of data, names and operators; of strings what they stand for
  Value number;      // of integers and floats
};

// A fault in the template itself, and where.
struct SyntaxFault : Fault {
  SyntaxFault(int fault_line, const std::string& what) : Fault(what), line(fault_line) {}
  int line;
};

// Requires: source is valid UTF-8. The last token is kEnd. Throws SyntaxFault.
std::vector<Token> tokenize(std::string_view source);

}  // namespace tenon::jinja
