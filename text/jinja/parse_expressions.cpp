// SPDX-License-Identifier: Apache-2.0
// Expressions, by the grammar of Jinja2's parser.py: its order of precedence is its own (`~` binds
// more tightly than `+`, filters more tightly than a sign).
#include <fmt/format.h>

#include <iterator>

#include "core/error.h"
#include "text/jinja/parser.h"

namespace tenon::jinja {
namespace {

constexpr int kMaxNesting = 120;  // of brackets and blocks
constexpr int kMaxHeight = 250;   // of operators over operators; CPython ends at 200 brackets

std::string described(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kData: return "text";
    case Token::Kind::kBlockBegin: return "\"{%\"";
    case Token::Kind::kBlockEnd: return "\"%}\"";
    case Token::Kind::kVariableBegin: return "\"{{\"";
    case Token::Kind::kVariableEnd: return "\"}}\"";
    case Token::Kind::kString: return fmt::format("the string \"{}\"", printable(token.text, 40));
    case Token::Kind::kInteger:
    case Token::Kind::kFloat: return "a number";
    case Token::Kind::kEnd: return "the end of the template";
    case Token::Kind::kName:
    case Token::Kind::kOperator: break;
  }
  return fmt::format("\"{}\"", printable(token.text, 40));
}

void push(std::vector<ExpressionPtr>& list, ExpressionPtr one) { list.push_back(std::move(one)); }

}  // namespace

void ExpressionParser::unexpected(std::string_view expected) const {
  fault(token().line, fmt::format("expected {}, got {}", expected, described(token())));
}

bool ExpressionParser::skip_operator(std::string_view text) {
  if (!is_operator(text)) return false;
  next();
  return true;
}
bool ExpressionParser::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  next();
  return true;
}
void ExpressionParser::expect_operator(std::string_view text) {
  if (!skip_operator(text)) unexpected(fmt::format("\"{}\"", text));
}
std::string ExpressionParser::expect_name() {
  if (!is(Token::Kind::kName)) unexpected("a name");
  return next().text;
}

int ExpressionParser::name_of(const std::string& name) {
  return names_.emplace(name, static_cast<int>(names_.size())).first->second;
}

void ExpressionParser::enter() {
  if (++depth_ > kMaxNesting) {
    fault(token().line, fmt::format("brackets or blocks nest deeper than {}", kMaxNesting));
  }
}

template <class... Operands>
ExpressionPtr ExpressionParser::node(Operation operation, int line, Operands... operands) {
  auto made = std::make_unique<Expression>();
  made->operation = operation;
  made->line = line;
  (push(made->operands, std::move(operands)), ...);
  return checked(std::move(made));
}

// Sets the height. To be called once all operands and arguments are there.
ExpressionPtr ExpressionParser::checked(ExpressionPtr made) {
  const auto over = [&](const ExpressionPtr& below) {
    if (below) made->height = std::max(made->height, below->height + 1);
  };
  for (const auto& operand : made->operands) over(operand);
  for (const auto& argument : made->arguments.positional) over(argument);
  for (const auto& argument : made->arguments.named) over(argument.second);
  over(made->arguments.sequence);
  over(made->arguments.mapping);
  if (made->height > kMaxHeight) {
    fault(made->line, fmt::format("an expression has more than {} levels", kMaxHeight));
  }
  return made;
}

ExpressionPtr ExpressionParser::parse_tuple(bool with_condition, std::string_view end,
                                            bool in_parentheses) {
  const int line = token().line;
  std::vector<ExpressionPtr> items;
  bool tuple = false;
  while (true) {
    if (!items.empty()) expect_operator(",");
    if (is(Token::Kind::kBlockEnd) || is(Token::Kind::kVariableEnd) || is_operator(")") ||
        (!end.empty() && is_name(end))) {
      break;
    }
    items.push_back(parse_expression(with_condition));
    if (!is_operator(",")) break;
    tuple = true;
  }
  if (!tuple) {
    if (!items.empty()) return std::move(items[0]);
    if (!in_parentheses) unexpected("an expression");
  }
  auto made = node(Operation::kTuple, line);
  made->operands = std::move(items);
  return checked(std::move(made));
}

Target ExpressionParser::parse_target(bool with_attribute, std::string_view end) {
  Target all{token().line, -1, {}, {}};
  bool tuple = false;
  while (true) {
    if (!all.targets.empty()) expect_operator(",");
    if (is(Token::Kind::kBlockEnd) || is_operator(")") || (!end.empty() && is_name(end))) break;
    all.targets.push_back(parse_one_target(with_attribute));
    if (!is_operator(",")) break;
    tuple = true;
  }
  if (tuple) return all;
  if (all.targets.empty()) unexpected("a name to assign to");
  return std::move(all.targets[0]);
}

Target ExpressionParser::parse_one_target(bool with_attribute) {
  const Nesting nesting(*this);
  Target target{token().line, -1, {}, {}};
  if (skip_operator("(")) {
    if (!is_operator(")")) target = parse_target(false, {});
    expect_operator(")");
    return target;
  }
  if (!is(Token::Kind::kName)) unexpected("a name to assign to");
  const std::string name = next().text;
  for (const char* constant : {"true", "false", "none", "True", "False", "None", "loop"}) {
    if (name == constant) fault(target.line, fmt::format("\"{}\" cannot be assigned to", name));
  }
  target.name = name_of(name);
  if (with_attribute && skip_operator(".")) target.attribute = expect_name();
  return target;
}

ExpressionPtr ExpressionParser::parse_expression(bool with_condition) {
  const Nesting nesting(*this);
  return with_condition ? parse_if() : parse_or();
}

ExpressionPtr ExpressionParser::parse_if() {
  const int line = token().line;
  ExpressionPtr value = parse_or();
  while (skip_name("if")) {
    ExpressionPtr condition = parse_or();
    ExpressionPtr otherwise;
    if (skip_name("else")) {
      const Nesting nesting(*this);
      otherwise = parse_if();
    }
    value =
        node(Operation::kIf, line, std::move(condition), std::move(value), std::move(otherwise));
  }
  return value;
}

ExpressionPtr ExpressionParser::parse_or() {
  ExpressionPtr left = parse_and();
  for (int line = token().line; skip_name("or"); line = token().line) {
    left = node(Operation::kOr, line, std::move(left), parse_and());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_and() {
  ExpressionPtr left = parse_not();
  for (int line = token().line; skip_name("and"); line = token().line) {
    left = node(Operation::kAnd, line, std::move(left), parse_not());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_not() {
  const int line = token().line;
  if (!skip_name("not")) return parse_compare();
  const Nesting nesting(*this);
  return node(Operation::kNot, line, parse_not());
}

bool ExpressionParser::take_comparison(Comparison& comparison) {
  constexpr std::pair<std::string_view, Comparison> kOperators[] = {
      {"==", Comparison::kEqual},  {"!=", Comparison::kNotEqual},
      {"<", Comparison::kLess},    {"<=", Comparison::kLessEqual},
      {">", Comparison::kGreater}, {">=", Comparison::kGreaterEqual},
  };
  for (const auto& [text, meaning] : kOperators) {
    if (!skip_operator(text)) continue;
    comparison = meaning;
    return true;
  }
  const bool inverted = is_name("not") && is_name("in", 1);
  if (inverted) next();
  if (!skip_name("in")) return false;
  comparison = inverted ? Comparison::kNotIn : Comparison::kIn;
  return true;
}

ExpressionPtr ExpressionParser::parse_compare() {
  const int line = token().line;
  ExpressionPtr left = parse_sum();
  ExpressionPtr all;
  for (Comparison comparison; take_comparison(comparison);) {
    if (!all) all = node(Operation::kCompare, line, std::move(left));
    all->comparisons.push_back(comparison);
    all->operands.push_back(parse_sum());
  }
  return all ? checked(std::move(all)) : std::move(left);
}

ExpressionPtr ExpressionParser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (is_operator("+") || is_operator("-")) {
    const Token sign = next();
    left = node(sign.text == "+" ? Operation::kAdd : Operation::kSubtract, sign.line,
                std::move(left), parse_concat());
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_concat() {
  const int line = token().line;
  ExpressionPtr first = parse_product();
  if (!is_operator("~")) return first;
  ExpressionPtr all = node(Operation::kConcat, line, std::move(first));
  while (skip_operator("~")) all->operands.push_back(parse_product());
  return checked(std::move(all));
}

ExpressionPtr ExpressionParser::parse_product() {
  constexpr std::pair<std::string_view, Operation> kOperators[] = {
      {"*", Operation::kMultiply},
      {"/", Operation::kDivide},
      {"//", Operation::kFloorDivide},
      {"%", Operation::kModulo},
  };
  ExpressionPtr left = parse_power();
  while (true) {
    const auto* found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                     [&](const auto& one) { return is_operator(one.first); });
    if (found == std::end(kOperators)) return left;
    const int line = next().line;
    left = node(found->second, line, std::move(left), parse_power());
  }
}

ExpressionPtr ExpressionParser::parse_power() {
  ExpressionPtr left = parse_unary(true);
  for (int line = token().line; skip_operator("**"); line = token().line) {
    left = node(Operation::kPower, line, std::move(left), parse_unary(true));
  }
  return left;
}

ExpressionPtr ExpressionParser::parse_unary(bool with_filters) {
  const Nesting nesting(*this);
  ExpressionPtr made;
  if (is_operator("-") || is_operator("+")) {
    const Token sign = next();
    made = node(sign.text == "-" ? Operation::kNegative : Operation::kPositive, sign.line,
                parse_unary(false));
  } else {
    made = parse_primary();
  }
  made = parse_postfix(std::move(made));
  return with_filters ? parse_filters_and_tests(std::move(made)) : std::move(made);
}

ExpressionPtr ExpressionParser::parse_primary() {
  const int line = token().line;
  if (is(Token::Kind::kName)) return parse_name();
  if (is(Token::Kind::kString)) {
    std::string text;
    while (is(Token::Kind::kString)) text += next().text;
    ExpressionPtr made = node(Operation::kConstant, line);
    made->value = constant_text(std::move(text), ++literals_);
    return made;
  }
  if (is(Token::Kind::kInteger) || is(Token::Kind::kFloat)) {
    ExpressionPtr made = node(Operation::kConstant, line);
    made->value = next().number;
    return made;
  }
  if (is_operator("[")) return parse_list();
  if (is_operator("{")) return parse_dict();
  if (!skip_operator("(")) unexpected("an expression");
  ExpressionPtr made = parse_tuple(true, {}, true);
  expect_operator(")");
  return made;
}

ExpressionPtr ExpressionParser::parse_name() {
  const Token name = next();
  const auto is_one_of = [&](const char* a, const char* b) {
    return name.text == a || name.text == b;
  };
  const bool truth = is_one_of("true", "True");
  if (truth || is_one_of("false", "False") || is_one_of("none", "None")) {
    ExpressionPtr made = node(Operation::kConstant, name.line);
    if (!is_one_of("none", "None")) made->value = Value::boolean(truth);
    return made;
  }
  ExpressionPtr made = node(Operation::kName, name.line);
  made->name = name_of(name.text);
  for (MacroBody* macro : macros_) {
    if (name.text == "caller") macro->caller = made->name;
    if (name.text == "varargs") macro->varargs = made->name;
    if (name.text == "kwargs") macro->kwargs = made->name;
  }
  return made;
}

ExpressionPtr ExpressionParser::parse_list() {
  ExpressionPtr made = node(Operation::kList, next().line);
  while (!is_operator("]")) {
    if (!made->operands.empty()) expect_operator(",");
    if (is_operator("]")) break;
    made->operands.push_back(parse_expression());
  }
  expect_operator("]");
  return checked(std::move(made));
}

ExpressionPtr ExpressionParser::parse_dict() {
  ExpressionPtr made = node(Operation::kDict, next().line);
  while (!is_operator("}")) {
    if (!made->operands.empty()) expect_operator(",");
    if (is_operator("}")) break;
    made->operands.push_back(parse_expression());
    expect_operator(":");
    made->operands.push_back(parse_expression());
  }
  expect_operator("}");
  return checked(std::move(made));
}

ExpressionPtr ExpressionParser::parse_postfix(ExpressionPtr left) {
  while (true) {
    if (is_operator(".") || is_operator("[")) {
      left = parse_subscript(std::move(left));
    } else if (is_operator("(")) {
      left = parse_call(std::move(left));
    } else {
      return left;
    }
  }
}

ExpressionPtr ExpressionParser::parse_filters_and_tests(ExpressionPtr left) {
  while (true) {
    if (is_operator("|")) {
      left = parse_filters(std::move(left), false);
    } else if (is_name("is")) {
      left = parse_test(std::move(left));
    } else if (is_operator("(")) {
      left = parse_call(std::move(left));
    } else {
      return left;
    }
  }
}

ExpressionPtr ExpressionParser::parse_subscript(ExpressionPtr left) {
  const Token begin = next();
  if (begin.text == ".") {
    if (is(Token::Kind::kInteger)) {
      ExpressionPtr index = node(Operation::kConstant, token().line);
      index->value = next().number;
      return node(Operation::kItem, begin.line, std::move(left), std::move(index));
    }
    if (!is(Token::Kind::kName)) unexpected("a name or a number");
    ExpressionPtr made = node(Operation::kAttribute, begin.line, std::move(left));
    made->text = next().text;
    return made;
  }
  ExpressionPtr bounds[3];
  if (!is_operator(":")) bounds[0] = parse_expression();
  if (is_operator(",")) unexpected("\"]\" (subscripts of several parts are not supported)");
  if (!is_operator(":")) {
    expect_operator("]");
    return node(Operation::kItem, begin.line, std::move(left), std::move(bounds[0]));
  }
  for (int i = 1; i < 3 && skip_operator(":"); ++i) {
    if (!is_operator(":") && !is_operator("]")) bounds[i] = parse_expression();
  }
  expect_operator("]");
  return node(Operation::kSlice, begin.line, std::move(left), std::move(bounds[0]),
              std::move(bounds[1]), std::move(bounds[2]));
}

ExpressionPtr ExpressionParser::parse_filters(ExpressionPtr over, bool started) {
  while (started || skip_operator("|")) {
    started = false;
    const int line = token().line;
    std::string name = expect_name();
    while (skip_operator(".")) name.append(".").append(expect_name());
    ExpressionPtr made = node(Operation::kFilter, line, std::move(over));
    made->text = std::move(name);
    if (is_operator("(")) made->arguments = parse_arguments();
    over = checked(std::move(made));
  }
  return over;
}

ExpressionPtr ExpressionParser::parse_test(ExpressionPtr left) {
  const int line = next().line;
  const bool inverted = skip_name("not");
  std::string name = expect_name();
  while (skip_operator(".")) name.append(".").append(expect_name());
  ExpressionPtr made = node(Operation::kTest, line, std::move(left));
  made->text = std::move(name);
  const bool argument = is(Token::Kind::kName) || is(Token::Kind::kString) ||
                        is(Token::Kind::kInteger) || is(Token::Kind::kFloat) || is_operator("[") ||
                        is_operator("{");
  if (is_operator("(")) {
    made->arguments = parse_arguments();
  } else if (argument && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fault(token().line, "tests cannot follow each other with \"is\"");
    made->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  made = checked(std::move(made));
  return inverted ? node(Operation::kNot, line, std::move(made)) : std::move(made);
}

ExpressionPtr ExpressionParser::parse_call(ExpressionPtr left) {
  ExpressionPtr made = node(Operation::kCall, token().line, std::move(left));
  made->arguments = parse_arguments();
  return checked(std::move(made));
}

ArgumentList ExpressionParser::parse_arguments() {
  const Nesting nesting(*this);
  const int line = token().line;
  ArgumentList arguments;
  expect_operator("(");
  for (bool first = true; !is_operator(")"); first = false) {
    if (!first) expect_operator(",");
    if (is_operator(")")) break;
    parse_argument(arguments, line);
  }
  expect_operator(")");
  return arguments;
}

void ExpressionParser::parse_argument(ArgumentList& arguments, int line) {
  const auto ensure = [line](bool in_order) {
    if (!in_order) fault(line, "the arguments of a call are in the wrong order");
  };
  if (skip_operator("*")) {
    ensure(!arguments.sequence && !arguments.mapping);
    arguments.sequence = parse_expression();
  } else if (skip_operator("**")) {
    ensure(!arguments.mapping);
    arguments.mapping = parse_expression();
  } else if (is(Token::Kind::kName) && is_operator("=", 1)) {
    ensure(!arguments.mapping);
    std::string name = expect_name();
    expect_operator("=");
    for (const auto& other : arguments.named) {
      if (other.first == name) fault(line, fmt::format("the argument \"{}\" is there twice", name));
    }
    arguments.named.emplace_back(std::move(name), parse_expression());
  } else {
    ensure(!arguments.sequence && !arguments.mapping && arguments.named.empty());
    arguments.positional.push_back(parse_expression());
  }
}

}  // namespace tenon::jinja
