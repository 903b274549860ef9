// SPDX-License-Identifier: Apache-2.0
// Runs a tree: statements write, expressions give values.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "text/jinja/operators.h"
#include "text/jinja/template.h"
#include "text/jinja/text_builder.h"
#include "text/jinja/tree.h"
#include "text/jinja/value.h"

namespace tenon::jinja {

// The variables of a block and, through `parent`, those that it sees.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;

  Value* find_own(int name);
  const Value* find(int name) const;
  void set(int name, Value value);
};

class Interpreter {
 public:
  Interpreter(const Tree& tree, Heap& heap, const std::tm& now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  bool knows(const std::string& name) const;              // the template has such a name
  void set(const std::string& name, const Value& value);  // Requires: knows(name)
  Written run();
  int line() const { return line_; }  // of what is being run

  // The text of a macro called with the arguments.
  Value call_macro(const MacroBody& macro, const std::shared_ptr<Scope>& scope,
                   Arguments& arguments);
  Value make_namespace(Arguments& arguments);

 private:
  enum class Flow { kOn, kBreak, kContinue };
  class Deeper;
  class InScope;
  class InIteration;

  Flow run_block(const Block& block);
  Flow run(const Statement& statement);
  Flow run_if(const Statement& statement);
  Flow run_for(const Statement& statement);
  Value filtered_items(const Statement& statement, std::string& fault);
  Flow run_loop(const Statement& statement, const Value& items, bool& finished);
  Flow run_with(const Statement& statement);
  Flow run_captured(const Statement& statement);
  void run_call(const Statement& statement);
  void run_generation(const Statement& statement);
  Value make_macro(const MacroBody& macro);
  void output(const Value& value) { write(to_text(heap_, value).text()); }
  void write(const Text& text);
  void assign(const Target& target, const Value& value);
  // What the block writes, as a text.
  TextBuilder capture(const Block& block, Flow& flow);

  bool is_owned(uint32_t iteration) const { return iteration > 0 && owners_[iteration - 1] >= 0; }
  // The origin of what is being written: with the iteration, unless it has one that says more.
  Origin stamped(const Origin& origin) const {
    Origin stamped = origin;
    if (origin.iteration == 0 || (!is_owned(origin.iteration) && is_owned(iteration_))) {
      stamped.iteration = iteration_;
    }
    return stamped;
  }
  // A text that is set to a variable in an owned iteration, which may be written in another.
  Value stamped(const Value& value);

  Value evaluate(const Expression& expression);
  Value evaluate_operator(const Expression& expression);
  Value evaluate_name(const Expression& expression);
  Value evaluate_sequence(const Expression& expression);
  Value evaluate_dict(const Expression& expression);
  Value evaluate_slice(const Expression& expression);
  Value evaluate_call(const Expression& expression, const Value* caller);
  Value evaluate_concat(const Expression& expression);
  Value evaluate_compare(const Expression& expression);
  // A filter over `input`, or over its own operand where that is null.
  Value evaluate_filter(const Expression& expression, const Value* input);
  Value evaluate_test(const Expression& expression);
  Arguments evaluate_arguments(const ArgumentList& list);
  bool compare(Comparison comparison, const Value& left, const Value& right);

  const Tree& tree_;
  Heap& heap_;
  const std::tm now_;
  std::shared_ptr<Scope> scope_;
  TextBuilder written_;
  TextBuilder* out_ = &written_;
  std::vector<int64_t> owners_;  // of the iterations so far, see Written
  uint32_t iteration_ = 0, generations_ = 0;
  int line_ = 1;
  int depth_ = 0;
  // What may be part of circles: emptied at the end, so that all is released.
  std::vector<std::shared_ptr<Scope>> captured_scopes_;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

// The entries of dict(...) and namespace(...).
Dict::Entries dict_entries(Heap& heap, std::string_view function, const Arguments& arguments);

// The functions that every template sees, but those that only an interpreter can make.
Value make_function(Heap& heap, const std::string& name, const std::tm& now);

}  // namespace tenon::jinja
