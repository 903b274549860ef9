// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/text_builder.h"

namespace tenon::jinja {
namespace {

constexpr int64_t kObjectBytes = 64;  // an object without what it holds, about

int64_t length_of(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

template <class Items, class Depth>
int deepest(const Items& items, Depth&& depth) {
  int result = 0;
  for (const auto& item : items) result = std::max(result, depth(item));
  return Heap::checked_depth(result + 1);
}

}  // namespace

Object::Object(Heap* heap, int64_t bytes, int nesting)
    : depth(nesting), heap_(heap), bytes_(bytes + kObjectBytes) {
  if (heap_) heap_->hold(bytes_);
}
Object::~Object() {
  if (heap_) heap_->release(bytes_);
}

Text::Text(Heap* heap, std::string utf8, Origins where_from)
    : Object(heap, static_cast<int64_t>(utf8.size() + where_from.held()), 0),
      bytes(std::move(utf8)),
      origins(std::move(where_from)),
      length(length_of(bytes)) {}
Sequence::Sequence(Heap* heap, Type sequence_type, std::vector<Value> values, int nesting)
    : Object(heap, static_cast<int64_t>(values.size() * sizeof(Value)), nesting),
      type(sequence_type),
      items(std::move(values)) {}
Dict::Dict(Heap* heap, Entries values, int nesting)
    : Object(heap, static_cast<int64_t>(values.size() * 2 * sizeof(Value)), nesting),
      entries(std::move(values)) {}
Namespace::Namespace(Heap* heap) : Object(heap, 0, 1) {}
Loop::Loop(Heap* heap, std::shared_ptr<Object> sequence, int nesting)
    : Object(heap, 0, nesting),
      owner(std::move(sequence)),
      items(static_cast<const Sequence&>(*owner).items) {}
Callable::Callable(Heap* heap, std::string callable_name, int nesting)
    : Object(heap, 0, nesting), name(std::move(callable_name)) {}

void Heap::too_long() {
  throw Fault(fmt::format("the template takes more than {} steps", kMaxSteps));
}
void Heap::too_large() {
  throw Fault(fmt::format("the template takes more than {} MiB of memory", kMaxBytes >> 20));
}

int Heap::checked_depth(int depth) {
  if (depth > kMaxDepth) throw Fault(fmt::format("values nest deeper than {}", kMaxDepth));
  return depth;
}

Value Heap::text(std::string utf8, Origins origins) {
  pass(utf8.size());
  return {Kind::kString, std::make_shared<Text>(this, std::move(utf8), std::move(origins))};
}

Value Heap::text(TextBuilder&& builder) {
  auto [utf8, origins] = std::move(builder).take();
  return text(std::move(utf8), std::move(origins));
}

Value Heap::part(const Value& whole, std::string_view bytes) {
  const Text& from = whole.text();
  if (bytes.size() == from.bytes.size()) {
    pass(bytes.size());
    return whole;
  }
  if (from.origins.is_one()) return text(std::string(bytes), from.origins);
  TextBuilder builder;
  builder.add(from, bytes);
  return text(std::move(builder));
}

Value Heap::sequence(Sequence::Type type, std::vector<Value> items) {
  step(1 + static_cast<int64_t>(items.size() / 4));
  const int depth = deepest(items, [](const Value& item) { return item.depth(); });
  return {Kind::kSequence, std::make_shared<Sequence>(this, type, std::move(items), depth)};
}

Value Heap::generator(std::vector<Value> items, std::string fault) {
  Value value = sequence(Sequence::Type::kGenerator, std::move(items));
  static_cast<Sequence&>(*value.object()).fault = std::move(fault);
  return value;
}

Value Heap::range(int64_t start, int64_t stop, int64_t step_size) {
  std::vector<Value> items;
  for (int64_t i = start; step_size > 0 ? i < stop : i > stop;) {
    items.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step_size, &i)) break;
  }
  Value value = sequence(Sequence::Type::kRange, std::move(items));
  auto& range = static_cast<Sequence&>(*value.object());
  range.start = start, range.stop = stop, range.step = step_size;
  return value;
}

Value Heap::dict(Dict::Entries entries) {
  step(1 + static_cast<int64_t>(entries.size() / 2));
  const int depth = deepest(entries, [](const auto& entry) {
    return std::max(entry.first.depth(), entry.second.depth());
  });
  return {Kind::kDict, std::make_shared<Dict>(this, std::move(entries), depth)};
}

Value Heap::undefined(std::string why) {
  return {Kind::kUndefined, std::make_shared<Text>(this, std::move(why), Origins())};
}

Value constant_text(std::string utf8, uint32_t literal) {
  return {Kind::kString,
          std::make_shared<Text>(nullptr, std::move(utf8),
                                 Origins({.kind = Origin::Kind::kTemplate, .number = literal}))};
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kDict: return "dict";
    case Kind::kNamespace: return "Namespace";
    case Kind::kLoop: return "LoopContext";
    case Kind::kCallable: return "function";
    case Kind::kSequence: break;
  }
  switch (value.sequence().type) {
    case Sequence::Type::kList: return "list";
    case Sequence::Type::kTuple: return "tuple";
    case Sequence::Type::kRange: return "range";
    case Sequence::Type::kKeys: return "dict_keys";
    case Sequence::Type::kValues: return "dict_values";
    case Sequence::Type::kItems: return "dict_items";
    case Sequence::Type::kGenerator: return "generator";
  }
  return "object";
}

}  // namespace tenon::jinja
