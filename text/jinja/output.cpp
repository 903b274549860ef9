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

void append_quoted(std::string_view text, std::string& out) {
  const bool single = text.find('\'') == text.npos || text.find('"') != text.npos;
  const char quote = single ? '\'' : '"';
  out += quote;
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
  out += quote;
}

class Representation {
 public:
  explicit Representation(Heap& heap) : heap_(heap) {}
  std::string of(const Value& value) {
    add(value);
    return std::move(out_);
  }

 private:
  void add(const Value& value) {
    heap_.step();
    heap_.check(static_cast<int64_t>(out_.size()));
    switch (value.kind()) {
      case Kind::kUndefined: out_ += "Undefined"; break;
      case Kind::kNone: out_ += "None"; break;
      case Kind::kBool: out_ += value.as_integer() ? "True" : "False"; break;
      case Kind::kInt: out_ += std::to_string(value.as_integer()); break;
      case Kind::kFloat: out_ += number_text(value.as_number()); break;
      case Kind::kString:
        heap_.pass(value.bytes().size() * 4);
        append_quoted(value.bytes(), out_);
        break;
      case Kind::kDict: add_entries(value.dict()); break;
      case Kind::kSequence: add_sequence(value.sequence()); break;
      case Kind::kLoop:
        out_ +=
            fmt::format("<LoopContext {}/{}>", value.loop().index + 1, value.loop().items.size());
        break;
      case Kind::kNamespace:
      case Kind::kCallable:
        throw Fault(fmt::format("a {} has no text of its own", type_name(value)));
    }
  }

  void add_all(const std::vector<Value>& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      add(items[i]);
    }
  }

  void add_entries(const Dict& dict) {
    out_ += '{';
    for (size_t i = 0; i < dict.entries.size(); ++i) {
      if (i > 0) out_ += ", ";
      add(dict.entries[i].first);
      out_ += ": ";
      add(dict.entries[i].second);
    }
    out_ += '}';
  }

  void add_sequence(const Sequence& sequence) {
    using Type = Sequence::Type;
    switch (sequence.type) {
      case Type::kGenerator: throw Fault("a generator has no text of its own: use |list or |join");
      case Type::kRange:
        out_ += sequence.step == 1 ? fmt::format("range({}, {})", sequence.start, sequence.stop)
                                   : fmt::format("range({}, {}, {})", sequence.start, sequence.stop,
                                                 sequence.step);
        return;
      case Type::kTuple:
        out_ += '(';
        add_all(sequence.items);
        out_ += sequence.items.size() == 1 ? ",)" : ")";
        return;
      case Type::kList: break;
      case Type::kKeys: out_ += "dict_keys("; break;
      case Type::kValues: out_ += "dict_values("; break;
      case Type::kItems: out_ += "dict_items("; break;
    }
    out_ += '[';
    add_all(sequence.items);
    out_ += sequence.type == Type::kList ? "]" : "])";
  }

  Heap& heap_;
  std::string out_;
};

void append_json_text(std::string_view text, bool ascii, std::string& out) {
  constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kNames = "\"\\nrtfb";
  out += '"';
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
  out += '"';
}

class JsonWriter {
 public:
  JsonWriter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}
  std::string of(const Value& value) {
    add(value);
    return std::move(out_);
  }

 private:
  void add(const Value& value) {
    heap_.step();
    heap_.check(static_cast<int64_t>(out_.size()));
    switch (value.kind()) {
      case Kind::kDict: return add_entries(value.dict());
      case Kind::kString:
        heap_.pass(value.bytes().size() * 2);
        return append_json_text(value.bytes(), style_.ascii, out_);
      case Kind::kSequence:
        if (value.sequence().type <= Sequence::Type::kTuple) return add_list(value.sequence());
        break;
      default:
        if (value.is(Kind::kNone) || value.is_number()) {
          out_ += scalar(value);
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

  void new_line(int level) {
    if (!style_.pretty) return;
    out_ += '\n';
    for (int i = 0; i < level; ++i) {
      out_ += style_.indent;
      heap_.pass(style_.indent.size());
      heap_.check(static_cast<int64_t>(out_.size()));
    }
  }

  void add_list(const Sequence& sequence) {
    if (sequence.items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < sequence.items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level_);
      add(sequence.items[i]);
    }
    new_line(--level_);
    out_ += ']';
  }

  void add_entries(const Dict& dict) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    Dict::Entries entries = dict.entries;
    if (style_.sort_keys) {
      heap_.step(static_cast<int64_t>(entries.size()));
      std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
        return ordered(heap_, Comparison::kLess, a.first, b.first);
      });
    }
    out_ += '{';
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(level_);
      add_key(entries[i].first);
      out_ += style_.key_separator;
      add(entries[i].second);
    }
    new_line(--level_);
    out_ += '}';
  }

  void add_key(const Value& key) {
    if (key.is(Kind::kString)) {
      append_json_text(key.bytes(), style_.ascii, out_);
    } else if (key.is(Kind::kNone) || key.is_number()) {
      append_json_text(scalar(key), false, out_);
    } else {
      throw Fault(fmt::format("{} cannot be a key of JSON", type_name(key)));
    }
  }

  Heap& heap_;
  const JsonStyle& style_;
  std::string out_;
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

std::string to_repr(Heap& heap, const Value& value) { return Representation(heap).of(value); }

std::string to_text(Heap& heap, const Value& value) {
  if (value.is(Kind::kUndefined)) return {};
  if (value.is(Kind::kString)) {
    heap.pass(value.bytes().size());
    return std::string(value.bytes());
  }
  return Representation(heap).of(value);
}

std::string to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  return JsonWriter(heap, style).of(value);
}

}  // namespace tenon::jinja
