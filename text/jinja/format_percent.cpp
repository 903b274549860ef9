// SPDX-License-Identifier: Apache-2.0
// Python's `format % values`: %s, %r, %d, %i, %u, %x, %X, %o, %c, %f, %F, %e, %E, %g, %G and %%,
// with flags, width, precision, `*` and (names).
#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

constexpr int64_t kMaxWidth = 1'000'000;

class PercentFormatter {
 public:
  PercentFormatter(Heap& heap, const Value& format, const Value& values)
      : heap_(heap), format_(format), rest_(format.bytes()), values_(values) {
    if (values.is(Kind::kSequence) && values.sequence().type == Sequence::Type::kTuple) {
      positional_ = values.sequence().items;
    } else {
      positional_.push_back(values);
      single_ = true;
    }
  }

  Value run() {
    while (true) {
      const size_t percent = rest_.find('%');
      out_.add(format_.text(), rest_.substr(0, percent));
      if (percent == rest_.npos) break;
      rest_.remove_prefix(percent + 1);
      convert();
      heap_.step();
      heap_.check(out_.held());
    }
    // What has items may hold more than the format asks for; Python knows undefined to have items.
    const bool mapping =
        single_ &&
        (values_.is(Kind::kDict) || values_.is(Kind::kUndefined) ||
         (values_.is(Kind::kSequence) && values_.sequence().type <= Sequence::Type::kRange));
    if (used_ < positional_.size() && !named_ && !mapping) {
      throw Fault("a format with % has fewer places than values");
    }
    return heap_.text(std::move(out_));
  }

 private:
  char take() {
    if (rest_.empty()) throw Fault("a format ends within a %");
    const char c = rest_[0];
    rest_.remove_prefix(1);
    return c;
  }

  const Value& next_value() {
    if (used_ >= positional_.size()) throw Fault("a format with % has more places than values");
    return positional_[used_++];
  }

  int64_t number() {
    int64_t value = 0;
    if (rest_.starts_with('*')) {
      take();
      value = to_index(next_value(), "a width of %*");
    } else {
      while (!rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9' && value <= kMaxWidth) {
        value = value * 10 + (take() - '0');
      }
    }
    if (value > kMaxWidth || value < -kMaxWidth)
      throw Fault("a width or precision of % is too large");
    return value;
  }

  void read_name() {
    const size_t end = rest_.find(')');
    if (end == rest_.npos) throw Fault("a format ends within a %(name)");
    if (!values_.is(Kind::kDict)) throw Fault("a format with %(name) expects a dict");
    const std::string_view name = rest_.substr(0, end);
    const Value* held = find(heap_, values_.dict(), heap_.text(std::string(name)));
    if (!held) throw Fault(fmt::format("a format's %({}) is not in the dict", printable(name, 40)));
    rest_.remove_prefix(end + 1);
    positional_ = {*held};
    used_ = 0;
    named_ = true;
  }

  void convert() {
    flags_.clear();
    width_ = 0, precision_ = -1;
    if (rest_.starts_with('(')) {
      take();
      read_name();
    }
    while (!rest_.empty() && std::string_view("-+ #0").find(rest_[0]) != std::string_view::npos) {
      flags_ += take();
    }
    width_ = number();
    if (width_ < 0) {
      flags_ += '-';
      width_ = -width_;
    }
    if (rest_.starts_with('.')) {
      take();
      precision_ = std::max<int64_t>(number(), 0);
    }
    while (rest_.starts_with('l') || rest_.starts_with('h') || rest_.starts_with('L')) take();
    const char type = take();
    if (type == '%') {
      out_.add("%");
    } else if (std::string_view("sra").find(type) != std::string_view::npos) {
      add_text(type);
    } else if (std::string_view("diuxXo").find(type) != std::string_view::npos) {
      add_integer(type);
    } else if (std::string_view("eEfFgG").find(type) != std::string_view::npos) {
      add_float(type);
    } else if (type == 'c') {
      add_character();
    } else {
      throw Fault(fmt::format("a format's %{} is not supported", printable({&type, 1})));
    }
  }

  bool has(char flag) const { return flags_.find(flag) != flags_.npos; }

  // What is missing to the width, before or behind what add() writes.
  template <class Add>
  void pad(int64_t length, const Add& add) {
    const std::string spaces(static_cast<size_t>(std::max<int64_t>(width_ - length, 0)), ' ');
    if (!has('-')) out_.add(spaces);
    add();
    if (has('-')) out_.add(spaces);
  }

  // A number filled up to the width: with zeros after its sign where asked, else with spaces.
  void pad_number(std::string text) {
    const auto length = static_cast<int64_t>(text.size());
    if (has('0') && !has('-') && length < width_) {
      size_t at = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
      if (text.size() > at + 1 && text[at] == '0' && (text[at + 1] | 0x20) == 'x') at += 2;
      text.insert(at, static_cast<size_t>(width_ - length), '0');
    }
    pad(static_cast<int64_t>(text.size()), [&] { out_.add(text); });
  }

  void add_text(char type) {
    if (type == 'a') throw Fault("a format's %a is not supported");
    const Value& value = next_value();
    const Value text = type == 's' ? to_text(heap_, value) : to_repr(heap_, value);
    std::string_view part = text.bytes();
    int64_t length = text.text().length;
    if (precision_ >= 0 && precision_ < length) {
      part = part.substr(0, byte_of(part, precision_));
      length = precision_;
    }
    pad(length, [&] { out_.add(text.text(), part); });
  }

  std::string signed_text(bool negative, std::string digits) const {
    return (negative ? "-" : has('+') ? "+" : has(' ') ? " " : "") + digits;
  }

  void add_integer(char type) {
    const Value& value = next_value();
    if (value.is(Kind::kUndefined)) fail_undefined(value);
    const bool decimal = type == 'd' || type == 'i' || type == 'u';
    int64_t number = 0;
    if (value.is_integral()) {
      number = value.as_integer();
    } else if (decimal && value.is(Kind::kFloat) && std::abs(value.as_number()) < 9.2e18) {
      number = static_cast<int64_t>(value.as_number());
    } else {
      throw Fault(fmt::format("a format's %{} expects a number, got {}", type, type_name(value)));
    }
    const uint64_t magnitude =
        number < 0 ? uint64_t{0} - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    std::string digits = type == 'x'   ? fmt::format("{:x}", magnitude)
                         : type == 'X' ? fmt::format("{:X}", magnitude)
                         : type == 'o' ? fmt::format("{:o}", magnitude)
                                       : fmt::format("{}", magnitude);
    if (precision_ > static_cast<int64_t>(digits.size())) {
      digits.insert(0, static_cast<size_t>(precision_) - digits.size(), '0');
    }
    if (has('#') && !decimal) digits.insert(0, type == 'o' ? "0o" : type == 'x' ? "0x" : "0X");
    pad_number(signed_text(number < 0, std::move(digits)));
  }

  void add_float(char type) {
    const Value& value = next_value();
    if (value.is(Kind::kUndefined)) fail_undefined(value);
    if (!value.is_number()) {
      throw Fault(fmt::format("a format's %{} expects a number, got {}", type, type_name(value)));
    }
    const double number = value.as_number();
    if (precision_ > 400) throw Fault("a format asks for more than 400 digits after the point");
    const int precision = precision_ < 0 ? 6 : static_cast<int>(precision_);
    const std::string format = std::string("%") + (has('#') ? "#" : "") + ".*" + type;
    std::string digits(800, '\0');
    const int length =
        std::snprintf(digits.data(), digits.size(), format.c_str(), precision, std::abs(number));
    digits.resize(static_cast<size_t>(length));
    pad_number(signed_text(std::signbit(number) && !std::isnan(number), std::move(digits)));
  }

  void add_character() {
    const Value& value = next_value();
    if (value.is(Kind::kString) && value.text().length == 1) {
      pad(1, [&] { out_.add(value.text()); });
    } else if (value.is_integral() && value.as_integer() >= 0 && value.as_integer() <= 0x10FFFF &&
               (value.as_integer() < 0xD800 || value.as_integer() > 0xDFFF)) {
      std::string text;
      append_utf8(static_cast<char32_t>(value.as_integer()), text);
      pad(1, [&] { out_.add(text); });
    } else {
      throw Fault("a format's %c expects a character");
    }
  }

  Heap& heap_;
  const Value format_;
  std::string_view rest_;  // of it
  const Value values_;
  std::vector<Value> positional_;
  bool single_ = false, named_ = false;
  size_t used_ = 0;
  TextBuilder out_;
  std::string flags_;
  int64_t width_ = 0, precision_ = -1;
};

}  // namespace

Value format_percent(Heap& heap, const Value& format, const Value& values) {
  heap.pass(format.bytes().size());
  return PercentFormatter(heap, format, values).run();
}

}  // namespace tenon::jinja
