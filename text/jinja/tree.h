// SPDX-License-Identifier: Apache-2.0
// A parsed template: statements and expressions, as Jinja2's grammar has them. Names of variables
// are numbers: places in Tree::names.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace tenon::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;
struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

enum class Operation : uint8_t {
  kConstant,   // value
  kName,       // name
  kList,       // operands
  kTuple,      // operands
  kDict,       // operands: key, value, key, ...
  kAttribute,  // operands[0].text
  kItem,       // operands[0][operands[1]]
  kSlice,      // operands[0][operands[1]:operands[2]:operands[3]], those left out are null
  kCall,       // operands[0](arguments)
  kFilter,     // operands[0]|text(arguments)
  kTest,       // operands[0] is text(arguments)
  kNot,
  kNegative,
  kPositive,
  kAnd,
  kOr,
  kIf,       // operands[1] if operands[0] else operands[2], which may be null
  kConcat,   // operands[0] ~ operands[1] ~ ...
  kCompare,  // operands[0] comparisons[0] operands[1] comparisons[1] ...
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
};

enum class Comparison : uint8_t {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

struct ArgumentList {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr sequence, mapping;  // *sequence, **mapping; null where there are none
};

struct Expression {
  Operation operation;
  int line;
  int height = 1;  // of the tree below it: evaluation recurses as deep
  int name = -1;
  std::string text;  // of an attribute, filter or test
  Value value;
  std::vector<ExpressionPtr> operands;
  std::vector<Comparison> comparisons;
  ArgumentList arguments;
};

// What is assigned to: a name, an attribute of a namespace, or a tuple of targets.
struct Target {
  int line;
  int name = -1;
  std::string attribute;        // of the namespace `name`; "": the name itself
  std::vector<Target> targets;  // where name < 0
};

// A macro, or the block that a call statement hands over.
struct MacroBody {
  std::string name;
  std::vector<std::pair<int, std::string>> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Block body;
  int caller = -1, varargs = -1, kwargs = -1;  // names, where the body uses them
};

struct Statement {
  enum class Kind : uint8_t {
    kText,        // text
    kOutput,      // {{ expression }}
    kIf,          // branches, otherwise
    kFor,         // for target in expression if condition: body, else otherwise
    kSet,         // target = expression
    kSetBlock,    // target = body through the filters of expression
    kMacro,       // name, macro
    kCall,        // expression (a kCall) with macro as its caller
    kFilter,      // body through the filters of expression
    kWith,        // with targets = values: body
    kGeneration,  // body
    kBreak,
    kContinue,
  };
  Kind kind;
  int line;
  std::string text;
  uint32_t literal = 0;  // of kText: its number, as constants have theirs in Origin::number
  int name = -1;
  Target target;
  ExpressionPtr expression;  // the innermost operand of a filter chain over a body is null
  ExpressionPtr condition;
  std::vector<std::pair<ExpressionPtr, Block>> branches;
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  Block body, otherwise;
  std::unique_ptr<MacroBody> macro;
};

struct Tree {
  std::vector<std::string> names;
  int loop_name = -1;  // `loop`
  Block body;
};

// Requires: source is valid UTF-8. Throws SyntaxFault naming what is wrong or not supported.
Tree parse(std::string_view source);

}  // namespace tenon::jinja
