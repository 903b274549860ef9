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

// Where the output goes meanwhile.
class InOutput {
 public:
  InOutput(std::string*& output, std::string& meanwhile)
      : output_(output), outer_(std::exchange(output, &meanwhile)) {}
  ~InOutput() { output_ = outer_; }
  InOutput(const InOutput&) = delete;
  InOutput& operator=(const InOutput&) = delete;

 private:
  std::string*& output_;
  std::string* outer_;
};

}  // namespace tenon::jinja
