// SPDX-License-Identifier: Apache-2.0
// The two halves of the parser: expressions, and above them statements.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/tree.h"

namespace tenon::jinja {

// Reads expressions off a list of tokens.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  const Token& token(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool is(Token::Kind kind) const { return token().kind == kind; }
  bool is_operator(std::string_view text, size_t ahead = 0) const {
    return token(ahead).kind == Token::Kind::kOperator && token(ahead).text == text;
  }
  bool is_name(std::string_view text, size_t ahead = 0) const {
    return token(ahead).kind == Token::Kind::kName && token(ahead).text == text;
  }
  Token next() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  std::string expect_name();
  [[noreturn]] void unexpected(std::string_view expected) const;
  [[noreturn]] static void fault(int line, const std::string& what) {
    throw SyntaxFault(line, what);
  }

  int name_of(const std::string& name);

  // `end`: a name that ends the tuple, as "in" of a for.
  ExpressionPtr parse_tuple(bool with_condition, std::string_view end, bool in_parentheses);
  ExpressionPtr parse_expression(bool with_condition = true);
  Target parse_target(bool with_attribute, std::string_view end);
  // The filters `|a|b(...)` over what is null yet; null where there are none. `started`: the first
  // name comes without its bar.
  ExpressionPtr parse_filters(ExpressionPtr over, bool started);

  // Counts what nests, for parsing and running recurse as deep.
  class Nesting {
   public:
    Nesting(ExpressionParser& parser) : parser_(parser) { parser.enter(); }
    ~Nesting() { --parser_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };

  std::map<std::string, int, std::less<>> names_;
  uint32_t literals_ = 0;  // those that have a number so far
  // How the bodies of macros that are being parsed use the names that Jinja gives them.
  std::vector<MacroBody*> macros_;

 private:
  void enter();
  template <class... Operands>
  ExpressionPtr node(Operation operation, int line, Operands... operands);
  ExpressionPtr parse_if();
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_compare();
  bool take_comparison(Comparison& comparison);
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filters);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_name();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr left);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr left);
  ExpressionPtr parse_subscript(ExpressionPtr left);
  ExpressionPtr parse_test(ExpressionPtr left);
  ExpressionPtr parse_call(ExpressionPtr left);
  ArgumentList parse_arguments();
  void parse_argument(ArgumentList& arguments, int line);
  Target parse_one_target(bool with_attribute);
  static ExpressionPtr checked(ExpressionPtr expression);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace tenon::jinja
