// SPDX-License-Identifier: Apache-2.0
// The methods of dicts and lists, and how a method is bound to its value.
#include "text/jinja/methods.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"

namespace tenon::jinja {
namespace {

Value get(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("get", arguments, {"key", "default"}, 1);
  check_key(given.at(0));
  if (const Value* held = find(heap, self.dict(), given.at(0))) return *held;
  return given.find(1) ? given.at(1) : Value();
}

template <Sequence::Type kType>
Value view(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters none("this method of a dict", arguments, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries) {
    items.push_back(kType == Sequence::Type::kKeys     ? key
                    : kType == Sequence::Type::kValues ? value
                                                       : heap.tuple({key, value}));
  }
  return heap.sequence(kType, std::move(items));
}

// Nothing changes a dict or a list here, so a copy is the value itself.
Value copy(Heap&, const Value& self, const Arguments& arguments) {
  const Parameters none("copy", arguments, {});
  return self;
}

Value count(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("count", arguments, {"value"}, 1);
  const auto& items = self.sequence().items;
  return Value::integer(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return equal(heap, item, given.at(0));
  }));
}

Value index(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("index", arguments, {"value"}, 1);
  const auto& items = self.sequence().items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& item) {
    return equal(heap, item, given.at(0));
  });
  if (found == items.end()) throw Fault("index: the value is not found");
  return Value::integer(found - items.begin());
}

constexpr Method kDictMethods[] = {
    {"copy", copy},
    {"fromkeys", nullptr},
    {"get", get},
    {"items", view<Sequence::Type::kItems>},
    {"keys", view<Sequence::Type::kKeys>},
    {"values", view<Sequence::Type::kValues>},
};
constexpr Method kListMethods[] = {{"copy", copy}, {"count", count}, {"index", index}};
constexpr Method kTupleMethods[] = {{"count", count}, {"index", index}};
// What the sandbox does not let templates call.
constexpr std::string_view kChangingDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kChangingList[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};
constexpr Method kIntMethods[] = {
    {"as_integer_ratio", nullptr}, {"bit_count", nullptr},   {"bit_length", nullptr},
    {"conjugate", nullptr},        {"denominator", nullptr}, {"imag", nullptr},
    {"numerator", nullptr},        {"real", nullptr},        {"to_bytes", nullptr},
};
constexpr Method kFloatMethods[] = {
    {"as_integer_ratio", nullptr}, {"conjugate", nullptr}, {"hex", nullptr}, {"imag", nullptr},
    {"is_integer", nullptr},       {"real", nullptr},
};

std::span<const Method> methods_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kString: return text_methods();
    case Kind::kDict: return kDictMethods;
    case Kind::kBool:
    case Kind::kInt: return kIntMethods;
    case Kind::kFloat: return kFloatMethods;
    case Kind::kSequence:
      if (value.sequence().type == Sequence::Type::kList) return kListMethods;
      if (value.sequence().type <= Sequence::Type::kRange) return kTupleMethods;
      break;
    default: break;
  }
  return {};
}

struct BoundMethod : Callable {
  BoundMethod(Heap& heap, const Method& found, const Value& value)
      : Callable(&heap, std::string(found.name), Heap::checked_depth(value.depth() + 1)),
        heap_of_values(heap),
        method(found),
        self(value) {}
  Value call(Arguments& arguments) override { return method.call(heap_of_values, self, arguments); }
  Heap& heap_of_values;
  const Method& method;
  const Value self;
};

}  // namespace

Value method(Heap& heap, const Value& value, std::string_view name) {
  for (const Method& known : methods_of(value)) {
    if (known.name != name) continue;
    if (!known.call) {
      throw Fault(fmt::format("{}.{} is not supported", type_name(value), name));
    }
    return {Kind::kCallable, std::make_shared<BoundMethod>(heap, known, value)};
  }
  std::span<const std::string_view> changing;
  if (value.is(Kind::kDict)) changing = kChangingDict;
  if (value.is(Kind::kSequence) && value.sequence().type == Sequence::Type::kList) {
    changing = kChangingList;
  }
  if (std::find(changing.begin(), changing.end(), name) != changing.end()) {
    return heap.undefined(fmt::format("{}.{} would change its value, which templates may not",
                                      type_name(value), name));
  }
  return {};
}

}  // namespace tenon::jinja
