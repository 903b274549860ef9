// SPDX-License-Identifier: Apache-2.0
// Statements: what stands in {% ... %}, and the text and output between.
#include <fmt/format.h>

#include <initializer_list>

#include "core/error.h"
#include "text/jinja/parser.h"

namespace tenon::jinja {
namespace {

using StatementPtr = std::unique_ptr<Statement>;
using Kind = Statement::Kind;

StatementPtr statement(Kind kind, int line) {
  auto made = std::make_unique<Statement>();
  made->kind = kind;
  made->line = line;
  return made;
}

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Tree run() {
    Tree tree;
    tree.loop_name = name_of("loop");
    tree.body = parse_block({});
    tree.names.resize(names_.size());
    for (const auto& [name, number] : names_) tree.names[static_cast<size_t>(number)] = name;
    return tree;
  }

 private:
  using Ends = std::initializer_list<std::string_view>;

  // Up to one of the tags that end it, whose name is not taken; without `ends` up to the end.
  Block parse_block(Ends ends) {
    Block block;
    while (!is(Token::Kind::kEnd)) {
      const Token begin = next();
      if (begin.kind == Token::Kind::kData) {
        block.push_back(statement(Kind::kText, begin.line));
        block.back()->text = begin.text;
        block.back()->literal = ++literals_;
      } else if (begin.kind == Token::Kind::kVariableBegin) {
        block.push_back(statement(Kind::kOutput, begin.line));
        block.back()->expression = parse_tuple(true, {}, false);
        if (!is(Token::Kind::kVariableEnd)) unexpected("\"}}\"");
        next();
      } else {
        for (const std::string_view end : ends) {
          if (is_name(end)) return block;
        }
        parse_tag(block);
        if (!is(Token::Kind::kBlockEnd)) unexpected("\"%}\"");
        next();
      }
    }
    if (ends.size() > 0) unexpected(fmt::format("{{% {} %}}", *(ends.end() - 1)));
    return block;
  }

  // A block after the head of its tag.
  Block parse_body(Ends ends) {
    const Nesting nesting(*this);
    skip_operator(":");
    if (!is(Token::Kind::kBlockEnd)) unexpected("\"%}\"");
    next();
    return parse_block(ends);
  }
  Block parse_body_to(std::string_view end) {
    Block block = parse_body({end});
    next();
    return block;
  }

  void parse_tag(Block& block) {
    if (!is(Token::Kind::kName)) unexpected("the name of a statement");
    const Token tag = next();
    const std::string& name = tag.text;
    if (name == "print") return parse_print(tag.line, block);
    StatementPtr made = name == "if"           ? parse_if(tag.line)
                        : name == "for"        ? parse_for(tag.line)
                        : name == "set"        ? parse_set(tag.line)
                        : name == "macro"      ? parse_macro(tag.line)
                        : name == "call"       ? parse_call_block(tag.line)
                        : name == "filter"     ? parse_filter_block(tag.line)
                        : name == "with"       ? parse_with(tag.line)
                        : name == "generation" ? parse_generation(tag.line)
                        : name == "break"      ? parse_jump(Kind::kBreak, tag)
                        : name == "continue"   ? parse_jump(Kind::kContinue, tag)
                                               : nullptr;
    if (!made) unknown(tag);
    block.push_back(std::move(made));
  }

  [[noreturn]] static void unknown(const Token& tag) {
    for (const char* known : {"autoescape", "block", "extends", "from", "import", "include"}) {
      if (tag.text == known) {
        fault(tag.line, fmt::format("the statement {{% {} %}} is not supported", tag.text));
      }
    }
    fault(tag.line, fmt::format("{{% {} %}} is not expected here", printable(tag.text, 40)));
  }

  void parse_print(int line, Block& block) {
    for (bool first = true; !is(Token::Kind::kBlockEnd); first = false) {
      if (!first) expect_operator(",");
      block.push_back(statement(Kind::kOutput, line));
      block.back()->expression = parse_expression();
    }
  }

  StatementPtr parse_if(int line) {
    StatementPtr made = statement(Kind::kIf, line);
    while (true) {
      ExpressionPtr condition = parse_tuple(false, {}, false);
      Block body = parse_body({"elif", "else", "endif"});
      made->branches.emplace_back(std::move(condition), std::move(body));
      const std::string end = next().text;
      if (end == "elif") continue;
      if (end == "else") made->otherwise = parse_body_to("endif");
      return made;
    }
  }

  StatementPtr parse_for(int line) {
    StatementPtr made = statement(Kind::kFor, line);
    made->target = parse_target(false, "in");
    if (!skip_name("in")) unexpected("\"in\"");
    made->expression = parse_tuple(false, "recursive", false);
    if (skip_name("if")) made->condition = parse_expression();
    if (is_name("recursive")) fault(line, "{% for ... recursive %} is not supported");
    ++loops_;
    made->body = parse_body({"else", "endfor"});
    --loops_;
    if (next().text == "else") made->otherwise = parse_body_to("endfor");
    return made;
  }

  StatementPtr parse_set(int line) {
    StatementPtr made = statement(Kind::kSet, line);
    made->target = parse_target(true, {});
    if (skip_operator("=")) {
      made->expression = parse_tuple(true, {}, false);
    } else {
      made->kind = Kind::kSetBlock;
      made->expression = parse_filters(nullptr, false);
      made->body = parse_body_to("endset");
    }
    return made;
  }

  void parse_parameters(MacroBody& macro) {
    expect_operator("(");
    for (bool first = true; !is_operator(")"); first = false) {
      if (!first) expect_operator(",");
      const Target parameter = parse_parameter();
      const std::string name = name_text(parameter.name);
      if (skip_operator("=")) {
        macro.defaults.push_back(parse_expression());
      } else if (!macro.defaults.empty()) {
        fault(parameter.line, fmt::format("the parameter \"{}\" needs a default, as the one before",
                                          printable(name, 40)));
      }
      for (const auto& other : macro.parameters) {
        if (other.second == name) {
          fault(parameter.line, fmt::format("two parameters \"{}\"", printable(name, 40)));
        }
      }
      macro.parameters.emplace_back(parameter.name, name);
    }
    expect_operator(")");
  }

  Target parse_parameter() {
    if (!is(Token::Kind::kName)) unexpected("the name of a parameter");
    const int line = token().line;
    return {line, name_of(next().text), {}, {}};
  }

  std::string name_text(int number) const {
    for (const auto& [name, other] : names_) {
      if (other == number) return name;
    }
    return {};
  }

  // The body of a macro or call: loops around it are not its own.
  void parse_macro_body(MacroBody& macro, std::string_view end) {
    macros_.push_back(&macro);
    const int loops = std::exchange(loops_, 0);
    macro.body = parse_body_to(end);
    loops_ = loops;
    macros_.pop_back();
    for (const auto& parameter : macro.parameters) {
      if (parameter.first == macro.varargs) macro.varargs = -1;
      if (parameter.first == macro.kwargs) macro.kwargs = -1;
    }
  }

  StatementPtr parse_macro(int line) {
    StatementPtr made = statement(Kind::kMacro, line);
    made->macro = std::make_unique<MacroBody>();
    made->macro->name = expect_name();
    made->name = name_of(made->macro->name);
    parse_parameters(*made->macro);
    for (const auto& parameter : made->macro->parameters) {
      if (parameter.second == "caller") {
        fault(line, "a macro's parameter may not be called \"caller\"");
      }
    }
    parse_macro_body(*made->macro, "endmacro");
    return made;
  }

  StatementPtr parse_call_block(int line) {
    StatementPtr made = statement(Kind::kCall, line);
    made->macro = std::make_unique<MacroBody>();
    made->macro->name = "caller";
    if (is_operator("(")) parse_parameters(*made->macro);
    made->expression = parse_expression();
    if (made->expression->operation != Operation::kCall) {
      fault(line, "{% call %} expects the call of a macro");
    }
    parse_macro_body(*made->macro, "endcall");
    return made;
  }

  StatementPtr parse_filter_block(int line) {
    StatementPtr made = statement(Kind::kFilter, line);
    made->expression = parse_filters(nullptr, true);
    made->body = parse_body_to("endfilter");
    return made;
  }

  StatementPtr parse_with(int line) {
    StatementPtr made = statement(Kind::kWith, line);
    while (!is(Token::Kind::kBlockEnd)) {
      if (!made->assignments.empty()) expect_operator(",");
      Target target = parse_parameter();
      expect_operator("=");
      made->assignments.emplace_back(std::move(target), parse_expression());
    }
    made->body = parse_body_to("endwith");
    return made;
  }

  StatementPtr parse_generation(int line) {
    StatementPtr made = statement(Kind::kGeneration, line);
    const int loops = std::exchange(loops_, 0);
    made->body = parse_body_to("endgeneration");
    loops_ = loops;
    return made;
  }

  StatementPtr parse_jump(Kind kind, const Token& tag) const {
    if (loops_ == 0) fault(tag.line, fmt::format("{{% {} %}} stands in no loop", tag.text));
    return statement(kind, tag.line);
  }

  int loops_ = 0;
};

}  // namespace

Tree parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace tenon::jinja
