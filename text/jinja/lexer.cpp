// SPDX-License-Identifier: Apache-2.0
#include "text/jinja/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "core/error.h"
#include "text/jinja/text_functions.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                           "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                           ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

// "\r\n" and "\r" become "\n"; one newline at the end goes.
std::string normalized_newlines(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      result += '\n';
    } else {
      result += source[i];
    }
  }
  if (result.ends_with('\n')) result.pop_back();
  return result;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized_newlines(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) read_text();
    add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool at(std::string_view what) const { return rest().starts_with(what); }
  void add(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, line_, std::move(text), {}});
  }
  void take(size_t bytes) {
    const std::string_view taken = rest().substr(0, bytes);
    line_ += static_cast<int>(std::count(taken.begin(), taken.end(), '\n'));
    at_ += taken.size();
  }
  [[noreturn]] void fault(const std::string& what) const { throw SyntaxFault(line_, what); }

  // Data up to a tag, and what is in the tag.
  void read_text() {
    size_t tag = 0;
    while (true) {
      tag = rest().find('{', tag);
      if (tag == std::string_view::npos || tag + 1 >= rest().size()) {
        add(Token::Kind::kData, std::string(rest()));
        return take(rest().size());
      }
      const char second = rest()[tag + 1];
      if (second == '%' || second == '{' || second == '#') break;
      ++tag;
    }
    const char type = rest()[tag + 1];
    const char sign = tag + 2 < rest().size() ? rest()[tag + 2] : '\0';
    add_data(rest().substr(0, tag), sign, type != '{');
    take(tag + 2 + (sign == '-' || sign == '+' ? 1 : 0));
    if (type == '#') return skip_comment();
    if (type == '%' && enter_raw()) return read_raw();
    read_tag(type == '%');
  }

  // The text before a tag: {%- strips all white space before it; without a sign that of the tag's
  // own line goes, where there is nothing else on it.
  void add_data(std::string_view text, char sign, bool strips_line) {
    if (sign == '-') {
      text = strip(text, {}, Side::kRight);
    } else if (sign != '+' && strips_line) {
      const size_t newline = text.rfind('\n');
      const size_t line_begin = newline == text.npos ? 0 : newline + 1;
      if ((newline != text.npos || line_starts_) &&
          strip(text.substr(line_begin), {}, Side::kRight).empty()) {
        text = text.substr(0, line_begin);
      }
    }
    if (!text.empty()) add(Token::Kind::kData, std::string(text));
  }

  // Takes the end of a tag ("%}", "-%}", "+%}") with the white space that goes with it.
  bool take_end(std::string_view end, bool trims, bool plus) {
    size_t bytes = 0;
    if (at(end)) {
      bytes = end.size();
      if (trims && rest().substr(bytes).starts_with('\n')) ++bytes;
    } else if (at("-") && rest().substr(1).starts_with(end)) {
      bytes = 1 + end.size();
      bytes += rest().size() - bytes - strip(rest().substr(bytes), {}, Side::kLeft).size();
    } else if (plus && at("+") && rest().substr(1).starts_with(end)) {
      bytes = 1 + end.size();
    } else {
      return false;
    }
    line_starts_ = rest()[bytes - 1] == '\n';
    take(bytes);
    return true;
  }

  void skip_comment() {
    const int begin = line_;
    while (at_ < source_.size()) {
      if (take_end("#}", true, true)) return;
      take(1);
    }
    throw SyntaxFault(begin, "this comment has no end \"#}\"");
  }

  void skip_space() { take(rest().size() - strip(rest(), {}, Side::kLeft).size()); }

  // True, past the tag, where it is {% raw %}.
  bool enter_raw() {
    const size_t begin = at_;
    const int line = line_;
    skip_space();
    if (at("raw")) {
      take(3);
      skip_space();
      if (take_end("%}", false, false)) return true;
    }
    at_ = begin, line_ = line;
    return false;
  }

  void read_raw() {
    const size_t begin = at_;
    const int line = line_;
    for (size_t tag = begin; (tag = source_.find("{%", tag)) != source_.npos; ++tag) {
      at_ = tag + 2;
      const char sign = at_ < source_.size() ? source_[at_] : '\0';
      if (sign == '-' || sign == '+') ++at_;
      skip_space();
      if (!at("endraw")) continue;
      take(6);
      skip_space();
      const bool line_starts = line_starts_;
      const size_t end = at_;
      if (!take_end("%}", true, true)) continue;
      const bool after = std::exchange(line_starts_, line_starts);
      const size_t next = std::exchange(at_, end);
      line_ = line;
      add_data(std::string_view(source_).substr(begin, tag - begin), sign, true);
      line_starts_ = after;
      at_ = begin;
      return take(next - begin);
    }
    throw SyntaxFault(line, "{% raw %} has no {% endraw %}");
  }

  void read_tag(bool block) {
    add(block ? Token::Kind::kBlockBegin : Token::Kind::kVariableBegin, "");
    const std::string_view end = block ? "%}" : "}}";
    std::string open;  // the brackets that wait for their ends: "}}" may close two of them
    while (true) {
      const int line = line_;
      if (open.empty() && take_end(end, block, block)) {
        tokens_.push_back(
            {block ? Token::Kind::kBlockEnd : Token::Kind::kVariableEnd, line, "", {}});
        return;
      }
      if (at_ >= source_.size()) return;
      read_token(open);
    }
  }

  void read_token(std::string& open) {
    const size_t begin = at_;
    skip_space();
    if (at_ != begin) return;
    if (is_digit(rest()[0])) return read_number();
    if (rest()[0] == '\'' || rest()[0] == '"') return read_string();
    if (const size_t length = name_length(); length > 0) {
      add(Token::Kind::kName, std::string(rest().substr(0, length)));
      return take(length);
    }
    for (const std::string_view one : kOperators) {
      if (!at(one)) continue;
      check_brackets(one[0], open);
      add(Token::Kind::kOperator, std::string(one));
      return take(one.size());
    }
    fault(fmt::format("unexpected character \"{}\"",
                      printable(rest().substr(0, first_utf8(rest()).length))));
  }

  void check_brackets(char one, std::string& open) const {
    if (one == '(') open += ')';
    if (one == '[') open += ']';
    if (one == '{') open += '}';
    if (one != ')' && one != ']' && one != '}') return;
    if (open.empty()) fault(fmt::format("unexpected \"{}\"", one));
    if (open.back() != one)
      fault(fmt::format("unexpected \"{}\", expected \"{}\"", one, open.back()));
    open.pop_back();
  }

  size_t name_length() const {
    constexpr uint8_t kWord = 4;
    size_t length = 0;
    while (length < rest().size()) {
      const Utf8Char c = first_utf8(rest().substr(length));
      if ((unicode_class_table()[c.code] & kWord) == 0) break;
      length += c.length;
    }
    return length;
  }

  // The end of digits with single underscores between them, from `from`.
  template <class IsDigit>
  size_t digits_end(size_t from, IsDigit is) const {
    const std::string_view text = rest();
    size_t end = from;
    while (end < text.size() && (is(text[end]) || (text[end] == '_' && end > from &&
                                                   end + 1 < text.size() && is(text[end + 1])))) {
      ++end;
    }
    return end;
  }

  void read_number() {
    if (at_ == 0 || source_[at_ - 1] != '.') {
      if (const size_t end = float_end(); end > 0) return add_float(end);
    }
    const std::string_view text = rest();
    int base = 10;
    size_t begin = 0, end = 0;
    if (text[0] == '0' && text.size() > 2) {
      const char letter = static_cast<char>(text[1] | 0x20);
      base = letter == 'b' ? 2 : letter == 'o' ? 8 : letter == 'x' ? 16 : 10;
    }
    if (base != 10) {
      begin = text[2] == '_' ? 3 : 2;
      end = digits_end(begin, [&](char c) { return digit_value(c) < base; });
    }
    if (end <= begin) {
      base = 10, begin = 0;
      end =
          text[0] == '0' ? digits_end(0, [](char c) { return c == '0'; }) : digits_end(0, is_digit);
    }
    std::string digits(text.substr(begin, end - begin));
    std::erase(digits, '_');
    int64_t number = 0;
    const auto [last, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
    if (error != std::errc()) {
      fault(fmt::format("the integer {} does not fit in 64 bits", printable(digits, 40)));
    }
    add(Token::Kind::kInteger, "");
    tokens_.back().number = Value::integer(number);
    take(end);
  }

  // The end of a number with a fraction or an exponent; 0 where there is none.
  size_t float_end() const {
    const std::string_view text = rest();
    size_t end = digits_end(0, is_digit);
    bool found = false;
    if (end + 1 < text.size() && text[end] == '.' && is_digit(text[end + 1])) {
      end = digits_end(end + 1, is_digit);
      found = true;
    }
    if (end + 1 < text.size() && (text[end] | 0x20) == 'e') {
      const size_t exponent = end + (text[end + 1] == '-' || text[end + 1] == '+' ? 2 : 1);
      if (exponent < text.size() && is_digit(text[exponent])) {
        end = digits_end(exponent, is_digit);
        found = true;
      }
    }
    return found ? end : 0;
  }

  void add_float(size_t end) {
    std::string digits(rest().substr(0, end));
    std::erase(digits, '_');
    add(Token::Kind::kFloat, "");
    tokens_.back().number = Value::number(std::strtod(digits.c_str(), nullptr));
    take(end);
  }

  void read_string() {
    const std::string_view text = rest();
    const char quote = text[0];
    size_t end = 1;
    while (end < text.size() && text[end] != quote) end += text[end] == '\\' ? 2 : 1;
    if (end >= text.size()) fault("this string has no end");
    try {
      add(Token::Kind::kString, unescape(text.substr(1, end - 1)));
    } catch (const Fault& error) {
      fault(error.what());
    }
    take(end + 1);
  }

  const std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;  // what was taken last ended with a newline
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace tenon::jinja
