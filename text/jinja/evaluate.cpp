// SPDX-License-Identifier: Apache-2.0
// Expressions.
#include <fmt/format.h>

#include "core/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/interpreter_scopes.h"
#include "text/jinja/operators.h"

namespace tenon::jinja {

Value Interpreter::evaluate(const Expression& expression) {
  const Deeper deeper(*this);
  line_ = expression.line;
  switch (expression.operation) {
    case Operation::kConstant: return expression.value;
    case Operation::kName: return evaluate_name(expression);
    case Operation::kList:
    case Operation::kTuple: return evaluate_sequence(expression);
    case Operation::kDict: return evaluate_dict(expression);
    case Operation::kSlice: return evaluate_slice(expression);
    case Operation::kCall: return evaluate_call(expression, nullptr);
    case Operation::kFilter: return evaluate_filter(expression, nullptr);
    case Operation::kTest: return evaluate_test(expression);
    case Operation::kConcat: return evaluate_concat(expression);
    case Operation::kCompare: return evaluate_compare(expression);
    default: return evaluate_operator(expression);
  }
}

// Operators, attributes and items.
Value Interpreter::evaluate_operator(const Expression& expression) {
  const auto& operands = expression.operands;
  Value first = evaluate(*operands[0]);
  switch (expression.operation) {
    case Operation::kNot: return Value::boolean(!truth(first));
    case Operation::kAnd: return truth(first) ? evaluate(*operands[1]) : first;
    case Operation::kOr: return truth(first) ? first : evaluate(*operands[1]);
    case Operation::kIf:
      if (truth(first)) return evaluate(*operands[1]);
      if (operands[2]) return evaluate(*operands[2]);
      return heap_.undefined("the condition of an \"if\" without \"else\" is false");
    default: break;
  }
  const auto at_own_line = [&](Value value) {
    line_ = expression.line;
    return value;
  };
  switch (expression.operation) {
    case Operation::kAttribute:
      line_ = expression.line;
      return attribute(heap_, first, expression.text);
    case Operation::kItem: {
      const Value index = at_own_line(evaluate(*operands[1]));
      return item(heap_, first, index);
    }
    case Operation::kNegative: return negative(first);
    case Operation::kPositive: return negative(negative(first));
    default: break;
  }
  const Value second = at_own_line(evaluate(*operands[1]));
  return arithmetic(heap_, expression.operation, first, second);
}

Value Interpreter::evaluate_name(const Expression& expression) {
  if (const Value* value = scope_->find(expression.name)) return *value;
  const std::string& name = tree_.names[static_cast<size_t>(expression.name)];
  return heap_.undefined(fmt::format("\"{}\" is undefined", printable(name, 40)));
}

Value Interpreter::evaluate_sequence(const Expression& expression) {
  std::vector<Value> items;
  for (const auto& operand : expression.operands) items.push_back(evaluate(*operand));
  return expression.operation == Operation::kList ? heap_.list(std::move(items))
                                                  : heap_.tuple(std::move(items));
}

Value Interpreter::evaluate_dict(const Expression& expression) {
  Dict::Entries entries;
  for (size_t i = 0; i < expression.operands.size(); i += 2) {
    const Value key = evaluate(*expression.operands[i]);
    jinja::assign(heap_, entries, key, evaluate(*expression.operands[i + 1]));
  }
  return dict_of_fields(heap_, std::move(entries));
}

Value Interpreter::evaluate_slice(const Expression& expression) {
  const Value sliced = evaluate(*expression.operands[0]);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (const auto& bound = expression.operands[i + 1]) bounds[i] = evaluate(*bound);
  }
  line_ = expression.line;
  return slice(heap_, sliced, bounds[0], bounds[1], bounds[2]);
}

Arguments Interpreter::evaluate_arguments(const ArgumentList& list) {
  Arguments arguments;
  for (const auto& argument : list.positional) arguments.positional.push_back(evaluate(*argument));
  if (list.sequence) {
    const Value more = items_of(heap_, evaluate(*list.sequence));
    const auto& items = more.sequence().items;
    heap_.step(static_cast<int64_t>(items.size()));
    arguments.positional.insert(arguments.positional.end(), items.begin(), items.end());
  }
  for (const auto& [name, argument] : list.named) {
    arguments.named.emplace_back(name, evaluate(*argument));
  }
  if (list.mapping) {
    const Value more = evaluate(*list.mapping);
    if (!more.is(Kind::kDict)) throw Fault("** expects a dict");
    for (const auto& [key, value] : more.dict().entries) {
      heap_.step(1 + static_cast<int64_t>(arguments.named.size()));
      if (!key.is(Kind::kString)) throw Fault("** expects names as keys");
      for (const auto& other : arguments.named) {
        if (other.first != key.bytes()) continue;
        throw Fault(fmt::format("the argument \"{}\" is there twice", printable(key.bytes(), 40)));
      }
      arguments.named.emplace_back(std::string(key.bytes()), value);
    }
  }
  return arguments;
}

Value Interpreter::evaluate_call(const Expression& expression, const Value* caller) {
  const Value callee = evaluate(*expression.operands[0]);
  Arguments arguments = evaluate_arguments(expression.arguments);
  if (caller) arguments.named.emplace_back("caller", *caller);
  line_ = expression.line;
  if (callee.is(Kind::kUndefined)) fail_undefined(callee);
  if (!callee.is(Kind::kCallable)) {
    throw Fault(fmt::format("{} cannot be called", type_name(callee)));
  }
  return callee.callable().call(arguments);
}

Value Interpreter::evaluate_concat(const Expression& expression) {
  TextBuilder all;
  for (const auto& operand : expression.operands) append_text(heap_, evaluate(*operand), all);
  return heap_.text(std::move(all));
}

bool Interpreter::compare(Comparison comparison, const Value& left, const Value& right) {
  switch (comparison) {
    case Comparison::kEqual: return equal(heap_, left, right);
    case Comparison::kNotEqual: return !equal(heap_, left, right);
    case Comparison::kIn: return contains(heap_, right, left);
    case Comparison::kNotIn: return !contains(heap_, right, left);
    default: return ordered(heap_, comparison, left, right);
  }
}

Value Interpreter::evaluate_compare(const Expression& expression) {
  Value left = evaluate(*expression.operands[0]);
  for (size_t i = 0; i < expression.comparisons.size(); ++i) {
    Value right = evaluate(*expression.operands[i + 1]);
    line_ = expression.line;
    if (!compare(expression.comparisons[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_filter(const Expression& expression, const Value* input) {
  const Deeper deeper(*this);
  // Over the body of a block, the innermost filter of a chain has no operand.
  const auto& below = expression.operands[0];
  const Value over = !input ? evaluate(*below) : below ? evaluate_filter(*below, input) : *input;
  const Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  return find_filter(expression.text).apply(heap_, over, arguments);
}

Value Interpreter::evaluate_test(const Expression& expression) {
  const Value input = evaluate(*expression.operands[0]);
  const Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = expression.line;
  return Value::boolean(find_test(expression.text).holds(heap_, input, arguments));
}

}  // namespace tenon::jinja
