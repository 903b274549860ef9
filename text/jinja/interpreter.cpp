// SPDX-License-Identifier: Apache-2.0
// Statements. Scopes are as in Jinja2: for, with, set and filter blocks, macros and generation
// blocks have variables of their own, if has not.
#include "text/jinja/interpreter.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/error.h"
#include "text/jinja/interpreter_scopes.h"
#include "text/jinja/operators.h"

namespace tenon::jinja {
namespace {

struct Macro : Callable {
  Macro(Interpreter& owner, Heap& heap, const MacroBody& macro, std::shared_ptr<Scope> seen)
      : Callable(&heap, macro.name, 0), interpreter(owner), body(macro), scope(std::move(seen)) {}
  Value call(Arguments& arguments) override {
    return interpreter.call_macro(body, scope, arguments);
  }
  Interpreter& interpreter;
  const MacroBody& body;
  const std::shared_ptr<Scope> scope;
};

struct NamespaceFunction : Callable {
  NamespaceFunction(Interpreter& owner, Heap& heap)
      : Callable(&heap, "namespace", 0), interpreter(owner) {}
  Value call(Arguments& arguments) override { return interpreter.make_namespace(arguments); }
  Interpreter& interpreter;
};

void check_attribute_name(std::string_view name) {
  if (name.starts_with('_')) {
    throw Fault(fmt::format("a namespace takes no attributes that begin with \"_\", got \"{}\"",
                            printable(name, 40)));
  }
}

void set_attribute(Namespace& space, const std::string& name, const Value& value) {
  check_attribute_name(name);
  for (auto& [key, held] : space.attributes) {
    if (key != name) continue;
    held = value;
    return;
  }
  space.attributes.emplace_back(name, value);
}

// Empties a namespace or scope without destroying values while it is being walked.
template <class Variables>
void clear(Variables& variables) {
  const Variables doomed = std::exchange(variables, {});
}

}  // namespace

Value* Scope::find_own(int name) {
  for (auto& [key, value] : variables) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Value* Scope::find(int name) const {
  for (const Scope* scope = this; scope; scope = scope->parent.get()) {
    for (const auto& [key, value] : scope->variables) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(int name, Value value) {
  if (Value* held = find_own(name)) {
    *held = std::move(value);
  } else {
    variables.emplace_back(name, std::move(value));
  }
}

Interpreter::Interpreter(const Tree& tree, Heap& heap, const std::tm& now)
    : tree_(tree), heap_(heap), now_(now), scope_(std::make_shared<Scope>()) {
  for (const std::string& name : tree.names) {
    Value function = make_function(heap, name, now_);
    if (name == "namespace") {
      function = {Kind::kCallable, std::make_shared<NamespaceFunction>(*this, heap)};
    }
    if (!function.is(Kind::kNone)) set(name, function);
  }
}

Interpreter::~Interpreter() {
  for (const auto& scope : captured_scopes_) clear(scope->variables);
  for (const auto& space : namespaces_) clear(space->attributes);
  clear(scope_->variables);
}

bool Interpreter::knows(const std::string& name) const {
  return std::find(tree_.names.begin(), tree_.names.end(), name) != tree_.names.end();
}

void Interpreter::set(const std::string& name, const Value& value) {
  const auto found = std::find(tree_.names.begin(), tree_.names.end(), name);
  scope_->set(static_cast<int>(found - tree_.names.begin()), value);
}

Written Interpreter::run() {
  // What the template sets is apart from what it was given.
  const InScope scope(*this);
  run_block(tree_.body);
  auto [text, origins] = std::move(written_).take();
  return {std::move(text), std::move(origins), std::move(owners_)};
}

Interpreter::Flow Interpreter::run_block(const Block& block) {
  for (const auto& statement : block) {
    const Flow flow = run(*statement);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run(const Statement& statement) {
  using Type = Statement::Kind;
  const Deeper deeper(*this);
  line_ = statement.line;
  switch (statement.kind) {
    case Type::kText:
      heap_.pass(statement.text.size());
      heap_.check(out_->held() + static_cast<int64_t>(statement.text.size()));
      out_->add(statement.text, {.number = statement.literal, .iteration = iteration_});
      break;
    case Type::kOutput: output(evaluate(*statement.expression)); break;
    case Type::kIf: return run_if(statement);
    case Type::kFor: return run_for(statement);
    case Type::kSet: assign(statement.target, evaluate(*statement.expression)); break;
    case Type::kMacro: scope_->set(statement.name, make_macro(*statement.macro)); break;
    case Type::kCall: run_call(statement); break;
    case Type::kSetBlock:
    case Type::kFilter: return run_captured(statement);
    case Type::kWith: return run_with(statement);
    case Type::kGeneration: run_generation(statement); break;
    case Type::kBreak: return Flow::kBreak;
    case Type::kContinue: return Flow::kContinue;
  }
  return Flow::kOn;
}

void Interpreter::write(const Text& text) {
  const std::string_view bytes = text.bytes;
  heap_.check(out_->held() + static_cast<int64_t>(bytes.size()));
  text.origins.each(0, bytes.size(), [&](size_t begin, size_t end, const Origin& one) {
    out_->add(bytes.substr(begin, end - begin), stamped(one));
  });
}

Value Interpreter::stamped(const Value& value) {
  if (!value.is(Kind::kString) || !is_owned(iteration_)) return value;
  const Text& text = value.text();
  const std::string_view bytes = text.bytes;
  TextBuilder all;
  bool changed = false;
  text.origins.each(0, bytes.size(), [&](size_t begin, size_t end, const Origin& one) {
    changed = changed || (begin < end && one.kind == Origin::Kind::kTemplate &&
                          stamped(one).iteration != one.iteration);
  });
  if (!changed) return value;
  text.origins.each(0, bytes.size(), [&](size_t begin, size_t end, const Origin& one) {
    all.add(bytes.substr(begin, end - begin), stamped(one));
  });
  return heap_.text(std::move(all));
}

Interpreter::Flow Interpreter::run_if(const Statement& statement) {
  for (const auto& [condition, body] : statement.branches) {
    if (truth(evaluate(*condition))) return run_block(body);
  }
  return run_block(statement.otherwise);
}

Value Interpreter::filtered_items(const Statement& statement, std::string& fault) {
  Value items = items_of(heap_, evaluate(*statement.expression), &fault);
  if (!statement.condition) return items;
  std::vector<Value> kept;
  const InScope scope(*this);
  for (const Value& item : items.sequence().items) {
    heap_.step();
    scope_->variables.clear();
    assign(statement.target, item);
    if (truth(evaluate(*statement.condition))) kept.push_back(item);
  }
  return heap_.list(std::move(kept));
}

Interpreter::Flow Interpreter::run_for(const Statement& statement) {
  std::string fault;
  const Value items = filtered_items(statement, fault);
  bool finished = false;
  const Flow flow = run_loop(statement, items, finished);
  if (flow == Flow::kOn && !fault.empty()) throw Fault(fault);
  if (finished) return Flow::kOn;
  const InScope scope(*this);
  return run_block(statement.otherwise);
}

// kBreak where the loop was left so. `finished` becomes true once a turn goes to its end: in Jinja2
// `else` runs after a loop that has none such, be it by break or continue.
Interpreter::Flow Interpreter::run_loop(const Statement& statement, const Value& items,
                                        bool& finished) {
  const auto loop =
      std::make_shared<Loop>(&heap_, items.object(), Heap::checked_depth(items.depth() + 1));
  const InScope scope(*this);
  struct End {
    ~End() {
      loop.ended = true;
      loop.last_changed = Value();
    }
    Loop& loop;
  } const end{*loop};
  for (const Value& item : loop->items) {
    heap_.step();
    // A macro of an earlier turn sees this turn's variables, as in Python: the scope stays.
    scope_->variables.clear();
    scope_->set(tree_.loop_name, {Kind::kLoop, loop});
    line_ = statement.line;
    assign(statement.target, item);
    const InIteration iteration(*this, item);
    const Flow flow = run_block(statement.body);
    if (flow == Flow::kBreak) return flow;
    finished = finished || flow == Flow::kOn;
    ++loop->index;
  }
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run_with(const Statement& statement) {
  std::vector<Value> values;
  for (const auto& assignment : statement.assignments) {
    values.push_back(evaluate(*assignment.second));
  }
  const InScope scope(*this);
  for (size_t i = 0; i < values.size(); ++i) assign(statement.assignments[i].first, values[i]);
  return run_block(statement.body);
}

TextBuilder Interpreter::capture(const Block& block, Flow& flow) {
  TextBuilder text;
  const InScope scope(*this);
  const InOutput output_scope(out_, text);
  flow = run_block(block);
  return text;
}

Interpreter::Flow Interpreter::run_captured(const Statement& statement) {
  Flow flow = Flow::kOn;
  Value text = heap_.text(capture(statement.body, flow));
  if (flow != Flow::kOn) return flow;
  line_ = statement.line;
  if (statement.expression) text = evaluate_filter(*statement.expression, &text);
  if (statement.kind == Statement::Kind::kFilter) {
    output(text);
  } else {
    assign(statement.target, text);
  }
  return flow;
}

void Interpreter::run_call(const Statement& statement) {
  const Value caller = make_macro(*statement.macro);
  output(evaluate_call(*statement.expression, &caller));
}

void Interpreter::run_generation(const Statement& statement) {
  Flow flow = Flow::kOn;
  const TextBuilder block = capture(statement.body, flow);
  const uint32_t number = ++generations_;
  const std::string_view bytes = block.bytes();
  heap_.pass(bytes.size());
  heap_.check(out_->held() + block.held());
  block.origins().each(0, bytes.size(), [&](size_t begin, size_t end, const Origin& one) {
    Origin marked = stamped(one);
    marked.generation = number;
    out_->add(bytes.substr(begin, end - begin), marked);
  });
}

Value Interpreter::make_macro(const MacroBody& macro) {
  if (captured_scopes_.empty() || captured_scopes_.back() != scope_) {
    captured_scopes_.push_back(scope_);
    heap_.hold(sizeof(Scope));
  }
  return {Kind::kCallable, std::make_shared<Macro>(*this, heap_, macro, scope_)};
}

Value Interpreter::call_macro(const MacroBody& macro, const std::shared_ptr<Scope>& seen,
                              Arguments& arguments) {
  const Deeper deeper(*this);
  const int line = line_;
  auto& positional = arguments.positional;
  const InScope scope(*this, seen);
  const auto take_named = [&](std::string_view name) -> std::optional<Value> {
    for (size_t i = 0; i < arguments.named.size(); ++i) {
      if (arguments.named[i].first != name) continue;
      Value value = std::move(arguments.named[i].second);
      arguments.named.erase(arguments.named.begin() + static_cast<std::ptrdiff_t>(i));
      return value;
    }
    return std::nullopt;
  };
  const size_t without_default = macro.parameters.size() - macro.defaults.size();
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, text] = macro.parameters[i];
    std::optional<Value> value;
    if (i < positional.size()) {
      value = positional[i];
    } else {
      value = take_named(text);
    }
    if (!value && i >= without_default) value = evaluate(*macro.defaults[i - without_default]);
    if (!value) {
      value =
          heap_.undefined(fmt::format("the parameter \"{}\" was not given", printable(text, 40)));
    }
    scope_->set(name, std::move(*value));
  }
  if (macro.caller >= 0) {
    const std::optional<Value> caller = take_named("caller");
    scope_->set(macro.caller, caller ? *caller : heap_.undefined("there is no caller"));
  }
  if (macro.kwargs >= 0) {
    Dict::Entries entries;
    for (auto& [name, value] : arguments.named) entries.emplace_back(heap_.text(name), value);
    scope_->set(macro.kwargs, heap_.dict(std::move(entries)));
  } else if (!arguments.named.empty()) {
    throw Fault(fmt::format("the macro {} takes no argument \"{}\"", printable(macro.name, 40),
                            printable(arguments.named[0].first, 40)));
  }
  const size_t taken = std::min(positional.size(), macro.parameters.size());
  if (macro.varargs >= 0) {
    scope_->set(macro.varargs, heap_.tuple({positional.begin() + static_cast<std::ptrdiff_t>(taken),
                                            positional.end()}));
  } else if (positional.size() > taken) {
    throw Fault(
        fmt::format("the macro {} takes at most {} arguments", printable(macro.name, 40), taken));
  }
  TextBuilder text;
  const InOutput output_scope(out_, text);
  run_block(macro.body);
  line_ = line;
  return heap_.text(std::move(text));
}

Value Interpreter::make_namespace(Arguments& arguments) {
  const auto space = std::make_shared<Namespace>(&heap_);
  for (const auto& [key, value] : dict_entries(heap_, "namespace", arguments)) {
    if (!key.is(Kind::kString)) throw Fault("namespace: expected names as keys");
    set_attribute(*space, std::string(key.bytes()), value);
  }
  namespaces_.push_back(space);
  return {Kind::kNamespace, space};
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (!target.attribute.empty()) {
    const Value* held = scope_->find(target.name);
    if (!held || !held->is(Kind::kNamespace)) {
      throw Fault(fmt::format("\"{}\" is no namespace: its attributes cannot be set",
                              printable(tree_.names[static_cast<size_t>(target.name)], 40)));
    }
    return set_attribute(held->name_space(), target.attribute, stamped(value));
  }
  if (target.name >= 0) return scope_->set(target.name, stamped(value));
  const Value items = items_of(heap_, value);
  const auto& parts = items.sequence().items;
  if (parts.size() != target.targets.size()) {
    throw Fault(
        fmt::format("expected {} values to assign, got {}", target.targets.size(), parts.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(target.targets[i], parts[i]);
}

}  // namespace tenon::jinja
