// SPDX-License-Identifier: Apache-2.0
// What an interpreter enters and leaves again, also when a fault flies past.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "text/jinja/interpreter.h"

namespace tenon::jinja {

// A level of recursion. Levels are bounded, for the stack is.
class Interpreter::Deeper {
 public:
  explicit Deeper(Interpreter& interpreter) : interpreter_(interpreter) {
    constexpr int kMaxDepth = 1000;
    interpreter.heap_.step();
    if (interpreter.depth_ >= kMaxDepth) throw Fault("macros call each other too deeply");
    ++interpreter.depth_;
  }
  ~Deeper() { --interpreter_.depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Interpreter& interpreter_;
};

// Variables of its own, that see those of `parent`.
class Interpreter::InScope {
 public:
  explicit InScope(Interpreter& interpreter) : InScope(interpreter, interpreter.scope_) {}
  InScope(Interpreter& interpreter, std::shared_ptr<Scope> parent) : interpreter_(interpreter) {
    auto scope = std::make_shared<Scope>();
    scope->parent = std::move(parent);
    outer_ = std::exchange(interpreter.scope_, std::move(scope));
  }
  ~InScope() { interpreter_.scope_ = std::move(outer_); }
  InScope(const InScope&) = delete;
  InScope& operator=(const InScope&) = delete;

 private:
  Interpreter& interpreter_;
  std::shared_ptr<Scope> outer_;
};

// An iteration of a loop over the item: a number of its own, where it is the outermost loop or the
// outermost whose item is a message.
class Interpreter::InIteration {
 public:
  InIteration(Interpreter& interpreter, const Value& item)
      : interpreter_(interpreter), outer_(interpreter.iteration_) {
    const bool owned = item.is(Kind::kDict) && item.dict().is_message;
    if (outer_ != 0 && (!owned || interpreter.is_owned(outer_))) return;
    interpreter.owners_.push_back(owned ? static_cast<int64_t>(item.dict().origin.number) : -1);
    interpreter.iteration_ = static_cast<uint32_t>(interpreter.owners_.size());
  }
  ~InIteration() { interpreter_.iteration_ = outer_; }
  InIteration(const InIteration&) = delete;
  InIteration& operator=(const InIteration&) = delete;

 private:
  Interpreter& interpreter_;
  const uint32_t outer_;
};

// Where the output goes meanwhile.
class InOutput {
 public:
  InOutput(TextBuilder*& output, TextBuilder& meanwhile)
      : output_(output), outer_(std::exchange(output, &meanwhile)) {}
  ~InOutput() { output_ = outer_; }
  InOutput(const InOutput&) = delete;
  InOutput& operator=(const InOutput&) = delete;

 private:
  TextBuilder*& output_;
  TextBuilder* outer_;
};

}  // namespace tenon::jinja
