// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja/text_functions.h"

namespace tenon::jinja {
namespace {

// Exact for all int64_t and double: the extended format has 64 bits of mantissa.
long double extended(const Value& value) {
  return value.is_integral() ? static_cast<long double>(value.as_integer()) : value.as_number();
}
static_assert(std::numeric_limits<long double>::digits >= 64);

bool is_list_like(const Value& value, Sequence::Type type) {
  return value.is(Kind::kSequence) && value.sequence().type == type;
}

bool same_items(Heap& heap, const std::vector<Value>& a, const std::vector<Value>& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [&](auto& x, auto& y) { return equal(heap, x, y); });
}

bool same_entries(Heap& heap, const Dict& a, const Dict& b) {
  return a.entries.size() == b.entries.size() &&
         std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
           const Value* other = find(heap, b, entry.first);
           return other && equal(heap, entry.second, *other);
         });
}

bool compare(Comparison comparison, const auto& a, const auto& b) {
  switch (comparison) {
    case Comparison::kLess: return a < b;
    case Comparison::kLessEqual: return a <= b;
    case Comparison::kGreater: return a > b;
    default: return a >= b;
  }
}

bool ordered_items(Heap& heap, Comparison comparison, const Sequence& a, const Sequence& b) {
  const size_t shorter = std::min(a.items.size(), b.items.size());
  for (size_t i = 0; i < shorter; ++i) {
    if (!equal(heap, a.items[i], b.items[i])) {
      return ordered(heap, comparison, a.items[i], b.items[i]);
    }
  }
  return compare(comparison, a.items.size(), b.items.size());
}

std::string sign_of(Operation operation) {
  switch (operation) {
    case Operation::kAdd: return "+";
    case Operation::kSubtract: return "-";
    case Operation::kMultiply: return "*";
    case Operation::kDivide: return "/";
    case Operation::kFloorDivide: return "//";
    case Operation::kModulo: return "%";
    default: return "**";
  }
}

[[noreturn]] void unsupported(Operation operation, const Value& a, const Value& b) {
  if (a.is(Kind::kUndefined)) fail_undefined(a);
  if (b.is(Kind::kUndefined)) fail_undefined(b);
  throw Fault(
      fmt::format("{} does not work on {} and {}", sign_of(operation), type_name(a), type_name(b)));
}

[[noreturn]] void too_big() { throw Fault("an integer does not fit in 64 bits"); }

int64_t integer_power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  while (true) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) too_big();
    exponent >>= 1;
    if (exponent == 0) return result;
    if (__builtin_mul_overflow(base, base, &base)) too_big();
  }
}

int64_t floor_divide(int64_t a, int64_t b) {
  if (b == 0) throw Fault("division by zero");
  if (b == -1) {
    int64_t result;
    if (__builtin_sub_overflow(int64_t{0}, a, &result)) too_big();
    return result;
  }
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

Value integer_arithmetic(Operation operation, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (operation) {
    case Operation::kAdd: overflow = __builtin_add_overflow(a, b, &result); break;
    case Operation::kSubtract: overflow = __builtin_sub_overflow(a, b, &result); break;
    case Operation::kMultiply: overflow = __builtin_mul_overflow(a, b, &result); break;
    case Operation::kFloorDivide: return Value::integer(floor_divide(a, b));
    case Operation::kModulo: {
      if (b == 0) throw Fault("modulo by zero");
      if (b == -1) return Value::integer(0);
      const int64_t rest = a % b;
      return Value::integer(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
    }
    case Operation::kDivide:
      if (b == 0) throw Fault("division by zero");
      return Value::number(static_cast<double>(static_cast<long double>(a) / b));
    default:
      if (b < 0 && a == 0) throw Fault("0 cannot be raised to a negative power");
      if (b < 0) return Value::number(std::pow(static_cast<double>(a), static_cast<double>(b)));
      return Value::integer(integer_power(a, b));
  }
  if (overflow) too_big();
  return Value::integer(result);
}

// Python's float.__mod__: the sign is the divisor's.
double float_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) rest += b;
    return rest;
  }
  return std::copysign(0.0, b);
}

double float_floor_divide(double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1.0;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1.0 : floor;
}

Value float_arithmetic(Operation operation, double a, double b) {
  const bool divides = operation == Operation::kDivide || operation == Operation::kFloorDivide ||
                       operation == Operation::kModulo;
  if (divides && b == 0) throw Fault("float division by zero");
  switch (operation) {
    case Operation::kAdd: return Value::number(a + b);
    case Operation::kSubtract: return Value::number(a - b);
    case Operation::kMultiply: return Value::number(a * b);
    case Operation::kDivide: return Value::number(a / b);
    case Operation::kFloorDivide: return Value::number(float_floor_divide(a, b));
    case Operation::kModulo: return Value::number(float_modulo(a, b));
    default: break;
  }
  if (a == 0 && b < 0) throw Fault("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
    throw Fault("complex numbers are not supported");
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b))
    throw Fault("a power is too large");
  return Value::number(result);
}

Value repeated(Heap& heap, const Value& value, int64_t count) {
  count = std::max<int64_t>(count, 0);
  if (value.is(Kind::kString)) {
    const std::string_view one = value.bytes();
    int64_t bytes = 0;
    if (__builtin_mul_overflow(static_cast<int64_t>(one.size()), count, &bytes)) bytes = INT64_MAX;
    heap.check(bytes);
    TextBuilder all;
    all.reserve(static_cast<size_t>(bytes));
    for (int64_t i = 0; bytes > 0 && i < count; ++i) {
      all.add(value.text());
      heap.check(all.held());
    }
    return heap.text(std::move(all));
  }
  const Sequence& sequence = value.sequence();
  std::vector<Value> items;
  for (int64_t i = 0; !sequence.items.empty() && i < count; ++i) {
    heap.step(static_cast<int64_t>(sequence.items.size()));
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return heap.sequence(sequence.type, std::move(items));
}

bool is_repeatable(const Value& value) {
  return value.is(Kind::kString) || is_list_like(value, Sequence::Type::kList) ||
         is_list_like(value, Sequence::Type::kTuple);
}

Value joined(Heap& heap, const Value& a, const Value& b) {
  if (a.is(Kind::kString)) {
    heap.check(static_cast<int64_t>(a.bytes().size() + b.bytes().size()));
    TextBuilder both;
    both.reserve(a.bytes().size() + b.bytes().size());
    both.add(a.text());
    both.add(b.text());
    return heap.text(std::move(both));
  }
  std::vector<Value> items = a.sequence().items;
  items.insert(items.end(), b.sequence().items.begin(), b.sequence().items.end());
  return heap.sequence(a.sequence().type, std::move(items));
}

}  // namespace

void fail_undefined(const Value& value) { throw Fault(value.text().bytes); }

int64_t to_index(const Value& value, std::string_view what) {
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is_integral()) {
    throw Fault(fmt::format("{}: expected an integer, got {}", what, type_name(value)));
  }
  return value.as_integer();
}

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool:
    case Kind::kInt: return value.as_integer() != 0;
    case Kind::kFloat: return value.as_number() != 0;
    case Kind::kString: return !value.bytes().empty();
    case Kind::kDict: return !value.dict().entries.empty();
    case Kind::kSequence:
      return value.sequence().type == Sequence::Type::kGenerator || !value.sequence().items.empty();
    case Kind::kNamespace:
    case Kind::kLoop:
    case Kind::kCallable: break;
  }
  return true;
}

bool equal(Heap& heap, const Value& a, const Value& b) {
  heap.step();
  if (a.is_number() && b.is_number()) return extended(a) == extended(b);
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kString:
      if (a.bytes().size() == b.bytes().size()) heap.pass(a.bytes().size());
      return a.bytes() == b.bytes();
    case Kind::kDict: return a.object() == b.object() || same_entries(heap, a.dict(), b.dict());
    case Kind::kSequence: {
      const Sequence::Type type = a.sequence().type;
      const bool by_items = type == Sequence::Type::kList || type == Sequence::Type::kTuple ||
                            type == Sequence::Type::kRange;
      if (a.object() == b.object()) return true;
      return by_items && type == b.sequence().type &&
             same_items(heap, a.sequence().items, b.sequence().items);
    }
    default: return a.object() == b.object();
  }
}

bool ordered(Heap& heap, Comparison comparison, const Value& a, const Value& b) {
  heap.step();
  if (a.is_number() && b.is_number()) return compare(comparison, extended(a), extended(b));
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    heap.pass(std::min(a.bytes().size(), b.bytes().size()));
    return compare(comparison, a.bytes(), b.bytes());
  }
  for (const auto type : {Sequence::Type::kList, Sequence::Type::kTuple}) {
    if (is_list_like(a, type) && is_list_like(b, type)) {
      return ordered_items(heap, comparison, a.sequence(), b.sequence());
    }
  }
  if (a.is(Kind::kUndefined)) fail_undefined(a);
  if (b.is(Kind::kUndefined)) fail_undefined(b);
  throw Fault(fmt::format("{} and {} have no order", type_name(a), type_name(b)));
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  if (container.is(Kind::kString)) {
    if (!item.is(Kind::kString)) {
      throw Fault(fmt::format("\"in\" a string expects a string, got {}", type_name(item)));
    }
    heap.pass(container.bytes().size());
    return find(container.bytes(), item.bytes()) != std::string_view::npos;
  }
  if (container.is(Kind::kDict)) {
    check_key(item);
    return find(heap, container.dict(), item) != nullptr;
  }
  const Value items = items_of(heap, container);
  const auto& all = items.sequence().items;
  return std::any_of(all.begin(), all.end(),
                     [&](const Value& one) { return equal(heap, one, item); });
}

Value arithmetic(Heap& heap, Operation operation, const Value& a, const Value& b) {
  if (operation == Operation::kModulo && a.is(Kind::kString)) {
    return format_percent(heap, a, b);
  }
  if (a.is_integral() && b.is_integral()) {
    return integer_arithmetic(operation, a.as_integer(), b.as_integer());
  }
  if (a.is_number() && b.is_number()) {
    return float_arithmetic(operation, a.as_number(), b.as_number());
  }
  if (operation == Operation::kAdd && a.kind() == b.kind() && is_repeatable(a) &&
      is_repeatable(b) && (a.is(Kind::kString) || a.sequence().type == b.sequence().type)) {
    return joined(heap, a, b);
  }
  if (operation == Operation::kMultiply) {
    if (is_repeatable(a) && b.is_integral()) return repeated(heap, a, b.as_integer());
    if (is_repeatable(b) && a.is_integral()) return repeated(heap, b, a.as_integer());
  }
  unsupported(operation, a, b);
}

Value negative(const Value& value) {
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (value.is(Kind::kFloat)) return Value::number(-value.as_number());
  if (!value.is_integral()) throw Fault(fmt::format("- does not work on {}", type_name(value)));
  return integer_arithmetic(Operation::kSubtract, 0, value.as_integer());
}

}  // namespace tenon::jinja
