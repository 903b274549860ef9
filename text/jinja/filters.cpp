// SPDX-License-Identifier: Apache-2.0
// Filters over values of any kind, and over numbers.
#include "text/jinja/filters.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"
#include "text/jinja/text_functions.h"

namespace tenon::jinja {
namespace {

Value default_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("default", arguments, {"default_value", "boolean"});
  const bool replaces = input.is(Kind::kUndefined) || (given.truth(1, false) && !truth(input));
  if (!replaces) return input;
  return given.find(0) ? given.at(0) : heap.text(std::string());
}

Value length_filter(Heap&, const Value& input, const Arguments& arguments) {
  const Parameters none("length", arguments, {});
  return Value::integer(length(input));
}

Value string_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("string", arguments, {});
  return to_text(heap, input);
}

Value json_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("tojson", arguments,
                         {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = given.truth(0, false);
  style.sort_keys = given.truth(3, false);
  if (const Value* indent = given.find_not_none(1)) {
    style.pretty = true;
    style.item_separator.pop_back();  // no space at the end of a line
    const Value spaces = indent->is(Kind::kString)
                             ? *indent
                             : arithmetic(heap, Operation::kMultiply, constant_text(" "), *indent);
    style.indent = spaces.bytes();
  }
  if (const Value* separators = given.find_not_none(2)) {
    const Value items = items_of(heap, *separators);
    const auto& parts = items.sequence().items;
    if (parts.size() != 2 || !parts[0].is(Kind::kString) || !parts[1].is(Kind::kString)) {
      throw Fault("tojson: expected two strings as separators");
    }
    style.item_separator = parts[0].bytes();
    style.key_separator = parts[1].bytes();
  }
  return to_json(heap, input, style);
}

Value absolute(Heap&, const Value& input, const Arguments& arguments) {
  const Parameters none("abs", arguments, {});
  if (input.is(Kind::kUndefined)) fail_undefined(input);
  if (!input.is_number())
    throw Fault(fmt::format("abs: expected a number, got {}", type_name(input)));
  if (input.is(Kind::kFloat)) return Value::number(std::abs(input.as_number()));
  return input.as_integer() < 0 ? negative(input) : Value::integer(input.as_integer());
}

// Digits with underscores between them lose these; false where underscores stand elsewhere.
bool without_underscores(std::string& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const bool between = i > 0 && i + 1 < text.size() && digit_value(text[i - 1]) < 36 &&
                         digit_value(text[i + 1]) < 36;
    if (text[i] == '_' && !between) return false;
  }
  std::erase(text, '_');
  return true;
}

// Python's float(text).
bool parse_float(std::string_view raw, double& number) {
  std::string text(strip(raw, {}, Side::kBoth));
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  const std::string word = to_lower(std::string_view(text).substr(sign));
  const bool named = word == "inf" || word == "infinity" || word == "nan";
  // strtod() knows more than Python: hexadecimal numbers, nan(...).
  if (!named && word.find_first_not_of("0123456789.e+-_") != word.npos) return false;
  if (word.empty() || !without_underscores(text)) return false;
  char* end = nullptr;
  number = std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size();
}

// Python's int(text, base).
bool parse_integer(std::string_view raw, int64_t base, int64_t& number) {
  std::string_view rest = strip(raw, {}, Side::kBoth);
  const bool minus = rest.starts_with('-');
  if (minus || rest.starts_with('+')) rest.remove_prefix(1);
  const auto prefixed = [&](char letter) {
    return rest.size() > 2 && rest[0] == '0' && (rest[1] | 0x20) == letter;
  };
  for (const auto& [letter, meant] : {std::pair{'b', 2}, {'o', 8}, {'x', 16}}) {
    if (!prefixed(letter) || (base != meant && base != 0)) continue;
    base = meant;
    rest.remove_prefix(rest[2] == '_' ? 3 : 2);
    break;
  }
  std::string text(rest);
  if (base == 0) {
    const bool octal_like =
        text.size() > 1 && text[0] == '0' && text.find_first_not_of("0_") != text.npos;
    if (octal_like) return false;
    base = 10;
  }
  if (text.empty() || !without_underscores(text)) return false;
  __int128 value = 0;
  for (const char c : text) {
    if (digit_value(c) >= base) return false;
    value = value * base + digit_value(c);
    if (value > (__int128{1} << 64)) break;
  }
  for (const char c : text) {
    if (digit_value(c) >= base) return false;
  }
  if (minus) value = -value;
  if (value > INT64_MAX || value < INT64_MIN)
    throw Fault("int: the integer does not fit in 64 bits");
  number = static_cast<int64_t>(value);
  return true;
}

Value truncated(double number, const Value& fallback) {
  if (!std::isfinite(number)) return fallback;
  if (std::abs(number) >= 9.2e18) throw Fault("int: the integer does not fit in 64 bits");
  return Value::integer(static_cast<int64_t>(number));
}

Value int_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("int", arguments, {"default", "base"});
  const Value fallback = given.find(0) ? given.at(0) : Value::integer(0);
  const int64_t base = given.integer(1, 10);
  if (input.is(Kind::kUndefined)) fail_undefined(input);
  if (input.is_integral()) return Value::integer(input.as_integer());
  if (input.is(Kind::kFloat)) {
    if (std::isinf(input.as_number())) throw Fault("int: infinity is no integer");
    return truncated(input.as_number(), fallback);
  }
  if (!input.is(Kind::kString)) return fallback;
  heap.pass(input.bytes().size() * 4);
  int64_t number = 0;
  double real = 0;
  const bool base_is_valid = base == 0 || (base >= 2 && base <= 36);
  if (base_is_valid && parse_integer(input.bytes(), base, number)) return Value::integer(number);
  return parse_float(input.bytes(), real) ? truncated(real, fallback) : fallback;
}

Value float_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("float", arguments, {"default"});
  const Value fallback = given.find(0) ? given.at(0) : Value::number(0);
  if (input.is(Kind::kUndefined)) fail_undefined(input);
  if (input.is_number()) return Value::number(input.as_number());
  double number = 0;
  if (!input.is(Kind::kString)) return fallback;
  heap.pass(input.bytes().size() * 4);
  return parse_float(input.bytes(), number) ? Value::number(number) : fallback;
}

// Python's round(): to the nearest, halves to even, of the number's exact decimal value.
double rounded(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 330) return value;
  if (precision < -330) return std::copysign(0.0, value);
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    return std::nearbyint(value / scale) * scale;
  }
  return std::strtod(fmt::format("{:.{}f}", value, precision).c_str(), nullptr);
}

int64_t rounded_integer(int64_t value, int64_t precision) {
  if (precision >= 0) return value;
  if (precision < -19) return 0;
  __int128 scale = 1;
  for (int64_t i = precision; i < 0; ++i) scale *= 10;
  __int128 rest = value % scale;
  if (rest < 0) rest += scale;
  __int128 low = value - rest;
  const bool up = rest * 2 > scale || (rest * 2 == scale && (low / scale) % 2 != 0);
  if (up) low += scale;
  if (low > INT64_MAX || low < INT64_MIN) throw Fault("round: the integer does not fit in 64 bits");
  return static_cast<int64_t>(low);
}

Value round_filter(Heap&, const Value& input, const Arguments& arguments) {
  const Parameters given("round", arguments, {"precision", "method"});
  if (input.is(Kind::kUndefined)) fail_undefined(input);
  const std::string_view way = given.text(1, "common");
  const int64_t precision = given.integer(0, 0);
  if (way != "common" && way != "ceil" && way != "floor") {
    throw Fault(fmt::format("round: expected common, ceil or floor, got {}", printable(way, 40)));
  }
  if (!input.is_number()) {
    throw Fault(fmt::format("round: expected a number, got {}", type_name(input)));
  }
  if (way == "common") {
    if (input.is_integral()) return Value::integer(rounded_integer(input.as_integer(), precision));
    return Value::number(rounded(input.as_number(), precision));
  }
  if (precision < 0 || precision > 15) throw Fault("round: expected 0 to 15 digits");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_number() * scale;
  return Value::number((way == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

constexpr Filter kFilters[] = {
    {"abs", absolute},         {"attr", nullptr},           {"count", length_filter},
    {"d", default_filter},     {"default", default_filter}, {"filesizeformat", nullptr},
    {"float", float_filter},   {"groupby", nullptr},        {"int", int_filter},
    {"length", length_filter}, {"pprint", nullptr},         {"random", nullptr},
    {"round", round_filter},   {"string", string_filter},   {"tojson", json_filter},
};

const Filter* look_up(std::string_view name) {
  for (const auto table : {number_filters(), text_filters(), sequence_filters()}) {
    for (const Filter& filter : table) {
      if (filter.name == name) return &filter;
    }
  }
  return nullptr;
}

}  // namespace

std::span<const Filter> number_filters() { return kFilters; }

bool is_filter(std::string_view name) { return look_up(name) != nullptr; }

const Filter& find_filter(std::string_view name) {
  const Filter* found = look_up(name);
  if (!found) throw Fault(fmt::format("there is no filter \"{}\"", printable(name, 40)));
  if (!found->apply) throw Fault(fmt::format("the filter \"{}\" is not supported", name));
  return *found;
}

}  // namespace tenon::jinja
