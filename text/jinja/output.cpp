// SPDX-License-Identifier: Apache-2.0
// Values as text: Python's str(), repr() and json.dumps().
#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/operators.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

// str.isprintable
bool is_printable(char32_t code) {
  if (code == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
  }
}

// The quote of Python's choice.
char quote_for(std::string_view text) {
  return text.find('\'') == text.npos || text.find('"') != text.npos ? '\'' : '"';
}

std::string in_python(std::string_view text, char quote) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_utf8(text.substr(at));
    const auto code = static_cast<uint32_t>(c.code);
    if (code == '\\' || code == static_cast<unsigned char>(quote)) {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n' || code == '\r' || code == '\t') {
      out += code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c.code)) {
      out += text.substr(at, c.length);
    } else {
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
    at += c.length;
  }
  return out;
}

// Writes values of values: what stands between has the origin of the innermost container that has
// one.
class NestedWriter {
 protected:
  explicit NestedWriter(Heap& heap) : heap_(heap) {}

  void add(std::string_view bytes) { out_.add(bytes, origin_); }
  // A text between quotes, its runs as `escape` makes them.
  template <class Escape>
  void add_quoted(const Text& text, std::string_view quote, const Escape& escape) {
    const Within within(*this, text.origins.first());
    add(quote);
    const std::string_view bytes = text.bytes;
    text.origins.each(0, bytes.size(), [&](size_t begin, size_t end, const Origin& one) {
      out_.add(escape(bytes.substr(begin, end - begin)), one);
    });
    add(quote);
  }

  class Within {
   public:
    Within(NestedWriter& writer, const Origin& origin) : writer_(writer), outer_(writer.origin_) {
      if (origin.kind != Origin::Kind::kTemplate) writer.origin_ = origin;
    }
    ~Within() { writer_.origin_ = outer_; }
    Within(const Within&) = delete;
    Within& operator=(const Within&) = delete;

   private:
    NestedWriter& writer_;
    const Origin outer_;
  };

  Heap& heap_;
  TextBuilder out_;
  Origin origin_;
};

class Representation : NestedWriter {
 public:
  explicit Representation(Heap& heap) : NestedWriter(heap) {}
  TextBuilder of(const Value& value) && {
    add_value(value);
    return std::move(out_);
  }

 private:
  void add_value(const Value& value) {
    heap_.step();
    heap_.check(out_.held());
    switch (value.kind()) {
      case Kind::kUndefined: add("Undefined"); break;
      case Kind::kNone: add("None"); break;
      case Kind::kBool: add(value.as_integer() ? "True" : "False"); break;
      case Kind::kInt: add(std::to_string(value.as_integer())); break;
      case Kind::kFloat: add(number_text(value.as_number())); break;
      case Kind::kString:
        heap_.pass(value.bytes().size() * 4);
        add_string(value.text());
        break;
      case Kind::kDict: add_entries(value.dict()); break;
      case Kind::kSequence: add_sequence(value.sequence()); break;
      case Kind::kLoop:
        add(fmt::format("<LoopContext {}/{}>", value.loop().index + 1, value.loop().items.size()));
        break;
      case Kind::kNamespace:
      case Kind::kCallable:
        throw Fault(fmt::format("a {} has no text of its own", type_name(value)));
    }
  }

  void add_string(const Text& text) {
    const char quote = quote_for(text.bytes);
    add_quoted(text, {&quote, 1}, [&](std::string_view part) { return in_python(part, quote); });
  }

  void add_all(const std::vector<Value>& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) add(", ");
      add_value(items[i]);
    }
  }

  void add_entries(const Dict& dict) {
    const Within within(*this, dict.origin);
    add("{");
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      if (i > 0) add(", ");
      add_value(dict.entries[i].first);
      add(": ");
      add_value(dict.entries[i].second);
    }
    add("}");
  }

  void add_sequence(const Sequence& sequence) {
    using Type = Sequence::Type;
    const Within within(*this, sequence.origin);
    switch (sequence.type) {
      case Type::kGenerator: throw Fault("a generator has no text of its own: use |list or |join");
      case Type::kRange:
        add(sequence.step == 1
                ? fmt::format("range({}, {})", sequence.start, sequence.stop)
                : fmt::format("range({}, {}, {})", sequence.start, sequence.stop, sequence.step));
        return;
      case Type::kTuple:
        add("(");
        add_all(sequence.items);
        add(sequence.items.size() == 1 ? ",)" : ")");
        return;
      case Type::kList: break;
      case Type::kKeys: add("dict_keys("); break;
      case Type::kValues: add("dict_values("); break;
      case Type::kItems: add("dict_items("); break;
    }
    add("[");
    add_all(sequence.items);
    add(sequence.type == Type::kList ? "]" : "])");
  }
};

std::string in_json(std::string_view text, bool ascii) {
  constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kNames = "\"\\nrtfb";
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = first_utf8(text.substr(at));
    const auto code = static_cast<uint32_t>(c.code);
    const size_t escape = code < 0x80 ? kEscaped.find(static_cast<char>(code)) : kEscaped.npos;
    if (escape != kEscaped.npos) {
      out += '\\';
      out += kNames[escape];
    } else if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000)) {
      out += fmt::format("\\u{:04x}", code);
    } else if (ascii && code >= 0x10000) {
      const uint32_t above = code - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (above >> 10), 0xDC00 + (above & 0x3FF));
    } else {
      out += text.substr(at, c.length);
    }
    at += c.length;
  }
  return out;
}

class JsonWriter : NestedWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : NestedWriter(heap), style_(style) {}
  TextBuilder of(const Value& value) && {
    add_value(value);
    return std::move(out_);
  }

 private:
  void add_value(const Value& value) {
    heap_.step();
    heap_.check(out_.held());
    switch (value.kind()) {
      case Kind::kDict: return add_entries(value.dict());
      case Kind::kString: heap_.pass(value.bytes().size() * 2); return add_string(value.text());
      case Kind::kSequence:
        if (value.sequence().type <= Sequence::Type::kTuple) return add_list(value.sequence());
        break;
      default:
        if (value.is(Kind::kNone) || value.is_number()) {
          add(scalar(value));
          return;
        }
    }
    throw Fault(fmt::format("{} cannot be written as JSON", type_name(value)));
  }

  static std::string scalar(const Value& value) {
    if (value.is(Kind::kNone)) return "null";
    if (value.is(Kind::kBool)) return value.as_integer() ? "true" : "false";
    if (value.is(Kind::kInt)) return std::to_string(value.as_integer());
    const double number = value.as_number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return number_text(number);
  }

  void add_string(const Text& text) {
    add_quoted(text, "\"", [&](std::string_view part) { return in_json(part, style_.ascii); });
  }

  void new_line(int level) {
    if (!style_.pretty) return;
    add("\n");
    for (int i = 0; i < level; ++i) {
      add(style_.indent);
      heap_.pass(style_.indent.size());
      heap_.check(out_.held());
    }
  }

  void add_list(const Sequence& sequence) {
    const Within within(*this, sequence.origin);
    if (sequence.items.empty()) {
      add("[]");
      return;
    }
    add("[");
    ++level_;
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) add(style_.item_separator);
      new_line(level_);
      add_value(sequence.items[i]);
    }
    new_line(--level_);
    add("]");
  }

  void add_entries(const Dict& dict) {
    const Within within(*this, dict.origin);
    if (dict.entries.empty()) {
      add("{}");
      return;
    }
    Dict::Entries entries = dict.entries;
    if (style_.sort_keys) {
      heap_.step(static_cast<int64_t>(entries.size()));
      std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
        return ordered(heap_, Comparison::kLess, a.first, b.first);
      });
    }
    add("{");
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) add(style_.item_separator);
      new_line(level_);
      add_key(entries[i].first);
      add(style_.key_separator);
      add_value(entries[i].second);
    }
    new_line(--level_);
    add("}");
  }

  void add_key(const Value& key) {
    if (key.is(Kind::kString)) {
      add_string(key.text());
    } else if (key.is(Kind::kNone) || key.is_number()) {
      add(fmt::format("\"{}\"", scalar(key)));
    } else {
      throw Fault(fmt::format("{} cannot be a key of JSON", type_name(key)));
    }
  }

  const JsonStyle& style_;
  int level_ = 0;
};

}  // namespace

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The shortest digits that give the number back, laid out as Python does.
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  const size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return text;
  const size_t sign = text[0] == '-' ? 1 : 0;
  std::string digits = text.substr(sign, e - sign);
  std::erase(digits, '.');
  const int whole = exponent + 1;  // digits before the point
  const int count = static_cast<int>(digits.size());
  text.resize(sign);
  if (whole <= 0) return fmt::format("{}0.{:0>{}}", text, digits, count - whole);
  if (whole >= count) return fmt::format("{}{:0<{}}.0", text, digits, whole);
  return fmt::format("{}{}.{}", text, digits.substr(0, static_cast<size_t>(whole)),
                     digits.substr(static_cast<size_t>(whole)));
}

Value to_repr(Heap& heap, const Value& value) { return heap.text(Representation(heap).of(value)); }

Value to_text(Heap& heap, const Value& value) {
  if (value.is(Kind::kString)) {
    heap.pass(value.bytes().size());
    return value;
  }
  return value.is(Kind::kUndefined) ? heap.text(std::string()) : to_repr(heap, value);
}

void append_text(Heap& heap, const Value& value, TextBuilder& out) {
  out.add(to_text(heap, value).text());
  heap.check(out.held());
}

Value to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  return heap.text(JsonWriter(heap, style).of(value));
}

}  // namespace tenon::jinja
