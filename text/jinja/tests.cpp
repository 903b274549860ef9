// SPDX-License-Identifier: Apache-2.0
// Jinja2's tests: what may follow `is`.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"
#include "text/jinja/text_functions.h"

namespace tenon::jinja {
namespace {

template <Kind kKind>
bool is_kind(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("this test", arguments, {});
  return value.is(kKind);
}

bool is_defined(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("defined", arguments, {});
  return !value.is(Kind::kUndefined);
}

template <bool kTruth>
bool is_truth(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("this test", arguments, {});
  return value.is(Kind::kBool) && (value.as_integer() != 0) == kTruth;
}

bool is_number(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("number", arguments, {});
  return value.is_number();
}

bool is_sequence(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("sequence", arguments, {});
  if (value.is(Kind::kSequence)) return value.sequence().type <= Sequence::Type::kRange;
  return value.is(Kind::kString) || value.is(Kind::kDict) || value.is(Kind::kUndefined);
}

bool is_iterable(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("iterable", arguments, {});
  return value.is(Kind::kSequence) || value.is(Kind::kString) || value.is(Kind::kDict) ||
         value.is(Kind::kUndefined) || value.is(Kind::kLoop);
}

bool is_callable(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("callable", arguments, {});
  return value.is(Kind::kCallable) || value.is(Kind::kUndefined) || value.is(Kind::kLoop);
}

// Whether the rest of a division is `rest`.
bool divides(Heap& heap, const Value& value, const Value& by, int64_t rest) {
  return equal(heap, arithmetic(heap, Operation::kModulo, value, by), Value::integer(rest));
}
template <int64_t kRest>
bool has_parity(Heap& heap, const Value& value, const Arguments& arguments) {
  const Parameters none("this test", arguments, {});
  return divides(heap, value, Value::integer(2), kRest);
}
bool is_divisible(Heap& heap, const Value& value, const Arguments& arguments) {
  const Parameters given("divisibleby", arguments, {"num"}, 1);
  return divides(heap, value, given.at(0), 0);
}

template <TextClass kClass>
bool has_case(Heap& heap, const Value& value, const Arguments& arguments) {
  const Parameters none("this test", arguments, {});
  const Value text = to_text(heap, value);
  heap.step(text.text().length);
  return is_all(text.bytes(), kClass);
}

template <Comparison kComparison>
bool compares(Heap& heap, const Value& value, const Arguments& arguments) {
  const Parameters given("this test", arguments, {"other"}, 1);
  const Value& other = given.at(0);
  switch (kComparison) {
    case Comparison::kEqual: return equal(heap, value, other);
    case Comparison::kNotEqual: return !equal(heap, value, other);
    case Comparison::kIn: return contains(heap, other, value);
    default: return ordered(heap, kComparison, value, other);
  }
}

bool is_same(Heap& heap, const Value& value, const Arguments& arguments) {
  const Parameters given("sameas", arguments, {"other"}, 1);
  const Value& other = given.at(0);
  if (value.kind() != other.kind()) return false;
  if (value.is(Kind::kNone) || value.is(Kind::kBool)) return equal(heap, value, other);
  if (value.object() && value.object() == other.object()) return true;
  if (value.is(Kind::kUndefined) || !equal(heap, value, other)) return false;
  if (value.is(Kind::kSequence) || value.is(Kind::kDict)) return false;
  // Python may or may not keep equal numbers and strings once.
  throw Fault(
      fmt::format("sameas has no meaning for equal values of the type {}", type_name(value)));
}

template <bool (*kKnows)(std::string_view)>
bool is_known(Heap&, const Value& value, const Arguments& arguments) {
  const Parameters none("this test", arguments, {});
  check_key(value);
  return value.is(Kind::kString) && kKnows(value.bytes());
}

bool never(Heap&, const Value&, const Arguments&) { return false; }

bool is_undefined(Heap& heap, const Value& value, const Arguments& arguments) {
  return !is_defined(heap, value, arguments);
}

constexpr Test kTests[] = {
    {"!=", compares<Comparison::kNotEqual>},
    {"<", compares<Comparison::kLess>},
    {"<=", compares<Comparison::kLessEqual>},
    {"==", compares<Comparison::kEqual>},
    {">", compares<Comparison::kGreater>},
    {">=", compares<Comparison::kGreaterEqual>},
    {"boolean", is_kind<Kind::kBool>},
    {"callable", is_callable},
    {"defined", is_defined},
    {"divisibleby", is_divisible},
    {"eq", compares<Comparison::kEqual>},
    {"equalto", compares<Comparison::kEqual>},
    {"escaped", never},
    {"even", has_parity<0>},
    {"false", is_truth<false>},
    {"filter", is_known<is_filter>},
    {"float", is_kind<Kind::kFloat>},
    {"ge", compares<Comparison::kGreaterEqual>},
    {"greaterthan", compares<Comparison::kGreater>},
    {"gt", compares<Comparison::kGreater>},
    {"in", compares<Comparison::kIn>},
    {"integer", is_kind<Kind::kInt>},
    {"iterable", is_iterable},
    {"le", compares<Comparison::kLessEqual>},
    {"lessthan", compares<Comparison::kLess>},
    {"lower", has_case<TextClass::kLower>},
    {"lt", compares<Comparison::kLess>},
    {"mapping", is_kind<Kind::kDict>},
    {"ne", compares<Comparison::kNotEqual>},
    {"none", is_kind<Kind::kNone>},
    {"number", is_number},
    {"odd", has_parity<1>},
    {"sameas", is_same},
    {"sequence", is_sequence},
    {"string", is_kind<Kind::kString>},
    {"test", is_known<is_test>},
    {"true", is_truth<true>},
    {"undefined", is_undefined},
    {"upper", has_case<TextClass::kUpper>},
};

const Test* look_up(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [name](const Test& test) { return test.name == name; });
  return found == std::end(kTests) ? nullptr : found;
}

}  // namespace

bool is_test(std::string_view name) { return look_up(name) != nullptr; }

const Test& find_test(std::string_view name) {
  const Test* found = look_up(name);
  if (!found) throw Fault(fmt::format("there is no test \"{}\"", printable(name, 40)));
  return *found;
}

}  // namespace tenon::jinja
