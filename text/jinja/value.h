// SPDX-License-Identifier: Apache-2.0
// Values of a template, with Python's kinds and rules, and the heap that they come from: it counts
// what a rendering uses, so that no template runs long or takes much memory.
#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/origins.h"

namespace tenon::jinja {

class Heap;
class TextBuilder;
class Value;

// What a template raised, or did wrong; whoever knows the line puts it before.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What a Value may refer to. `depth` counts containers within containers: bounded, so that
// functions over values (destructors too) may recurse.
struct Object {
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  const int depth;

 protected:
  Object(Heap* heap, int64_t bytes, int depth);

 private:
  Heap* heap_;  // null for constants of a template
  int64_t bytes_;
};

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kSequence,
  kDict,
  kNamespace,
  kLoop,
  kCallable,
};

struct Text;
struct Sequence;
struct Dict;
struct Namespace;
struct Loop;
struct Callable;

class Value {
 public:
  Value() = default;  // None
  static Value boolean(bool value) { return {Kind::kBool, value, 0.0}; }
  static Value integer(int64_t value) { return {Kind::kInt, value, 0.0}; }
  static Value number(double value) { return {Kind::kFloat, 0, value}; }
  // `object` is of the type that the kind says; of kUndefined it is a Text: why using it is wrong.
  Value(Kind kind, std::shared_ptr<Object> object) : kind_(kind), object_(std::move(object)) {}

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }

  // Requires: the kind that each says.
  int64_t as_integer() const { return integer_; }  // kInt, kBool
  double as_number() const { return is_integral() ? static_cast<double>(integer_) : number_; }
  const Text& text() const;
  const Sequence& sequence() const;
  const Dict& dict() const;
  Namespace& name_space() const;
  Loop& loop() const;
  Callable& callable() const;
  std::string_view bytes() const;  // kString: its UTF-8

  const std::shared_ptr<Object>& object() const { return object_; }
  int depth() const { return object_ ? object_->depth : 0; }

 private:
  Value(Kind kind, int64_t integer, double number)
      : kind_(kind), integer_(integer), number_(number) {}

  Kind kind_ = Kind::kNone;
  int64_t integer_ = 0;
  double number_ = 0;
  std::shared_ptr<Object> object_;
};

struct Text : Object {
  Text(Heap* heap, std::string utf8, Origins where_from);
  const std::string bytes;
  const Origins origins;
  const int64_t length;  // code points
  bool ascii() const { return length == static_cast<int64_t>(bytes.size()); }
};

// What can be run through. All but generators can be asked for their length.
struct Sequence : Object {
  enum class Type : uint8_t { kList, kTuple, kRange, kKeys, kValues, kItems, kGenerator };
  Sequence(Heap* heap, Type type, std::vector<Value> items, int depth);
  const Type type;
  const std::vector<Value> items;
  Origin origin;  // of what stands between the items where it is written out
  int64_t start = 0, stop = 0, step = 1;  // of a range
  // A generator gives its items once, and then raises `fault` unless that is empty.
  enum class Use : uint8_t { kFresh, kPartly, kDone };
  std::string fault;
  mutable Use use = Use::kFresh;
};

// Keys are None, bool, int, float, string, or tuples of those; 1, 1.0 and true are the same key.
struct Dict : Object {
  using Entries = std::vector<std::pair<Value, Value>>;
  Dict(Heap* heap, Entries entries, int depth);
  const Entries entries;
  Origin origin;            // as a sequence's
  bool is_message = false;  // one of the messages as a whole, or a dict made of one's fields
};

struct Namespace : Object {
  explicit Namespace(Heap* heap);
  std::vector<std::pair<std::string, Value>> attributes;
};

// `loop` in a for block.
struct Loop : Object {
  Loop(Heap* heap, std::shared_ptr<Object> sequence, int depth);
  const std::shared_ptr<Object> owner;  // keeps `items`
  const std::vector<Value>& items;
  int64_t index = 0;
  // A tuple, once loop.changed() was called. It may hold the loop itself, so it goes at the end.
  Value last_changed;
  bool ended = false;
};

// The arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable : Object {
  Callable(Heap* heap, std::string name, int depth);
  virtual Value call(Arguments& arguments) = 0;
  const std::string name;
};

// Where values are made. Everything that runs through values or bytes says so with step() or
// pass(); everything that makes many bytes asks check() before or while it does. Throws Fault at
// the limits, which are far above what conversations need.
class Heap {
 public:
  static constexpr int64_t kMaxSteps = 5'000'000;
  static constexpr int64_t kMaxBytes = int64_t{128} << 20;
  static constexpr int kMaxDepth = 300;

  void step(int64_t count = 1) {
    steps_ += count;
    if (steps_ > kMaxSteps) too_long();
  }
  // For work that is some bytes long.
  void pass(size_t bytes) { step(1 + static_cast<int64_t>(bytes / 64)); }
  // For a value of `bytes` in the making.
  void check(int64_t bytes) const {
    if (bytes > kMaxBytes - held_) too_large();
  }
  void hold(int64_t bytes) {
    check(bytes);
    held_ += bytes;
  }
  void release(int64_t bytes) { held_ -= bytes; }

  // A text of the template's, of no literal.
  Value text(std::string utf8) { return text(std::move(utf8), {}); }
  Value text(std::string utf8, Origins origins);
  Value text(TextBuilder&& builder);
  // A part of a text, within whose bytes it lies; the text itself where it is all of it.
  Value part(const Value& text, std::string_view bytes);
  Value list(std::vector<Value> items) { return sequence(Sequence::Type::kList, std::move(items)); }
  Value tuple(std::vector<Value> items) {
    return sequence(Sequence::Type::kTuple, std::move(items));
  }
  Value sequence(Sequence::Type type, std::vector<Value> items);
  // A generator that gives the items and then, unless `fault` is empty, raises it.
  Value generator(std::vector<Value> items, std::string fault = {});
  Value range(int64_t start, int64_t stop, int64_t step);
  // Requires: no two keys are equal.
  Value dict(Dict::Entries entries);
  Value undefined(std::string why);

  // Requires: depth is that of a container to be made. Throws Fault where it is too deep.
  static int checked_depth(int depth);

 private:
  [[noreturn]] static void too_long();
  [[noreturn]] static void too_large();
  int64_t steps_ = 0, held_ = 0;
};

inline const Text& Value::text() const { return static_cast<const Text&>(*object_); }
inline const Sequence& Value::sequence() const { return static_cast<const Sequence&>(*object_); }
inline const Dict& Value::dict() const { return static_cast<const Dict&>(*object_); }
inline Namespace& Value::name_space() const { return static_cast<Namespace&>(*object_); }
inline Loop& Value::loop() const { return static_cast<Loop&>(*object_); }
inline Callable& Value::callable() const { return static_cast<Callable&>(*object_); }
inline std::string_view Value::bytes() const { return text().bytes; }

// A string constant of a template, which no heap counts; `literal` is its number, or 0.
Value constant_text(std::string utf8, uint32_t literal = 0);

// Name and reference of what is bound to a callable, e.g. 'str' or 'list': Python's type names.
std::string_view type_name(const Value& value);

}  // namespace tenon::jinja
