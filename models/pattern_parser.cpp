// SPDX-License-Identifier: Apache-2.0
// Recursive descent over the grammar of Python's re/_parser.py.
#include "models/path_pattern.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace tenon {
namespace {

constexpr size_t kPatternBytes = 2048;

using Letters = std::bitset<128>;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_octal(char c) { return c >= '0' && c <= '7'; }

template <class Holds>
Letters letters_where(const Holds& holds) {
  Letters letters;
  for (size_t c = 0; c < letters.size(); ++c) letters[c] = holds(static_cast<char>(c));
  return letters;
}

// What \d, \w, \s and their capitals stand for.
std::optional<Letters> category(char c) {
  switch (c) {
    case 'd': return letters_where(is_digit);
    case 'D': return ~letters_where(is_digit);
    case 'w': return letters_where(is_word_letter);
    case 'W': return ~letters_where(is_word_letter);
    case 's':
    case 'S': {
      const Letters spaces = letters_where([](char each) {
        return each == ' ' || (each >= 9 && each <= 13) || (each >= 28 && each <= 31);
      });
      return c == 's' ? spaces : ~spaces;
    }
    default: return std::nullopt;
  }
}

Letters without_case(const Letters& letters) {
  Letters both = letters;
  for (size_t c = 'a'; c <= 'z'; ++c) {
    const size_t capital = c - 'a' + 'A';
    both[c] = both[capital] = letters[c] || letters[capital];
  }
  return both;
}

class Parser {
 public:
  using Node = PatternNode;
  using Kind = Node::Kind;

  Parser(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  std::vector<Node> parse() {
    if (text_.size() > kPatternBytes)
      fail_input("{}: a pattern of {} bytes, at most {} are read", where_, text_.size(),
                 kPatternBytes);
    if (std::any_of(text_.begin(), text_.end(), [](char c) { return (c & 0x80) != 0; }))
      unsupported("letters beyond ASCII");
    global_flags();
    choice();
    if (!ended()) invalid("unbalanced parenthesis");
    return std::move(nodes_);
  }

 private:
  [[noreturn]] void invalid(const std::string& what) const {
    fail_input("{}: \"{}\" is not a regular expression (of Python): {} at position {}", where_,
               printable(text_), what, at_);
  }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw UnsupportedPattern(
        Exit::kInput, fmt::format("{}: \"{}\" has {}, which Tenon does not understand", where_,
                                  printable(text_), what));
  }

  bool ended() const { return at_ == text_.size(); }
  bool is_next(std::string_view text) const {
    return std::string_view(text_).substr(at_).starts_with(text);
  }
  bool take(std::string_view text) {
    if (!is_next(text)) return false;
    at_ += text.size();
    return true;
  }
  char next(const char* missing) {
    if (ended()) invalid(missing);
    return text_[at_++];
  }

  int add(Node node) {
    nodes_.push_back(std::move(node));
    return static_cast<int>(nodes_.size()) - 1;
  }
  int letter(Letters letters) {
    if (ignore_case_) letters = without_case(letters);
    return add({.kind = Kind::kLetter, .letters = letters, .shortest = 1, .longest = 1});
  }
  int letter(char c) {
    return letter(letters_where([c](char each) { return each == c; }));
  }
  int list(Kind kind, std::vector<int> children) {
    Node node{.kind = kind};
    for (size_t i = 0; i < children.size(); ++i) {
      const Node& child = nodes_[static_cast<size_t>(children[i])];
      if (kind == Kind::kSequence) {
        node.shortest += child.shortest;
        node.longest += child.longest;
      } else {
        node.shortest = i == 0 ? child.shortest : std::min(node.shortest, child.shortest);
        node.longest = std::max(node.longest, child.longest);
      }
    }
    node.shortest = std::min(node.shortest, Node::kUnbounded);
    node.longest = std::min(node.longest, Node::kUnbounded);
    node.children = std::move(children);
    return add(std::move(node));
  }

  // (?i) and its like, which Python takes at the very beginning only.
  void global_flags() {
    while (is_next("(?") && at_ + 2 < text_.size() &&
           std::string_view("aiLmsux").find(text_[at_ + 2]) != std::string_view::npos) {
      const size_t begin = at_;
      at_ += 2;
      const bool before = ignore_case_;
      flags();
      if (take(")")) continue;
      at_ = begin;  // those of a group
      ignore_case_ = before;
      return;
    }
  }

  // Names are of ASCII and have one line: i alone makes a difference.
  void flags() {
    bool on = true;
    for (; !ended() && text_[at_] != ')' && text_[at_] != ':'; ++at_) {
      const char c = text_[at_];
      if (c == '-' && on) {
        on = false;
      } else if (c == 'i') {
        ignore_case_ = on;
      } else if (c == 'x' && on) {
        unsupported("re.VERBOSE");
      } else if (std::string_view(on ? "amsu" : "msx").find(c) == std::string_view::npos) {
        invalid("unknown flag");
      }
    }
    if (text_[at_ - 1] == '-') invalid("missing flag");
  }

  int choice() {
    std::vector<int> choices = {sequence()};
    while (take("|")) choices.push_back(sequence());
    return choices.size() == 1 ? choices[0] : list(Kind::kChoice, std::move(choices));
  }

  int sequence() {
    std::vector<int> parts;
    while (!ended() && text_[at_] != '|' && text_[at_] != ')') {
      if (take("(?#")) {
        while (next("missing ), unterminated comment") != ')') {
        }
      } else if (repeats()) {
        if (parts.empty() || !may_repeat_) invalid("nothing to repeat");
        parts.back() = repeat(parts.back());
        may_repeat_ = false;
      } else {
        may_repeat_ = true;
        parts.push_back(atom());
      }
    }
    return list(Kind::kSequence, std::move(parts));
  }

  // Whether a repetition follows; a { that begins none is a letter.
  bool repeats() {
    if (ended()) return false;
    const char c = text_[at_];
    if (c == '*' || c == '+' || c == '?') return true;
    const size_t begin = at_;
    const bool found = c == '{' && bounds().has_value();
    at_ = begin;
    return found;
  }

  // {m}, {m,}, {,n} or {m,n}; nothing where it is none of these.
  std::optional<std::pair<int64_t, int64_t>> bounds() {
    if (!take("{") || is_next("}")) return std::nullopt;
    const auto number = [&](int64_t fallback) {
      int64_t value = 0;
      const size_t begin = at_;
      for (; !ended() && is_digit(text_[at_]); ++at_)
        value = std::min(Node::kUnbounded, 10 * value + (text_[at_] - '0'));
      return at_ == begin ? fallback : value;
    };
    const int64_t least = number(0);
    const int64_t most = take(",") ? number(Node::kUnbounded) : least;
    if (!take("}")) return std::nullopt;
    return std::pair(least, most);
  }

  int repeat(int child) {
    Node node{.kind = Kind::kRepeat, .children = {child}, .most = Node::kUnbounded};
    if (take("+")) {
      node.least = 1;
    } else if (take("?")) {
      node.most = 1;
    } else if (!take("*")) {
      std::tie(node.least, node.most) = *bounds();
    }
    if (node.least > node.most) invalid("min repeat greater than max repeat");
    if (take("+")) unsupported("a possessive repeat");
    take("?");  // fewest first: whether the whole matches does not depend on it
    const Node& repeated = nodes_[static_cast<size_t>(child)];
    const auto times = [](int64_t a, int64_t b) {
      return a == 0 || b < Node::kUnbounded / a ? a * b : Node::kUnbounded;
    };
    node.shortest = times(repeated.shortest, node.least);
    node.longest = times(repeated.longest, node.most);
    return add(std::move(node));
  }

  int assertion(Kind kind, bool negated = false) {
    may_repeat_ = false;
    return add({.kind = kind, .negated = negated});
  }

  int atom() {
    const char c = text_[at_++];
    switch (c) {
      case '(': return group();
      case '[': return letter_set();
      case '\\': return escape();
      case '.': return letter(letters_where([](char each) { return each != '\n'; }));
      case '^': return assertion(Kind::kStart);
      case '$': return assertion(Kind::kEnd);
      default: return letter(c);
    }
  }

  int group() {
    const size_t begin = at_;
    const bool before = ignore_case_;
    if (!take("?")) return closed(choice());
    if (take("P<")) {
      name();
      return closed(choice());
    }
    if (take(":")) return closed(choice());
    if (take("=")) return look(Kind::kAhead, false);
    if (take("!")) return look(Kind::kAhead, true);
    if (take("<=")) return look(Kind::kBehind, false);
    if (take("<!")) return look(Kind::kBehind, true);
    if (take("P=")) unsupported("a backreference");
    if (take("(")) unsupported("a condition");
    if (take(">")) unsupported("an atomic group");
    if (ended() || std::string_view("aimsux-").find(text_[at_]) == std::string_view::npos)
      invalid("unknown extension");
    flags();
    if (is_next(")")) {
      at_ = begin;
      invalid("global flags not at the start of the expression");
    }
    if (!take(":")) invalid("missing :");
    const int inner = closed(choice());
    ignore_case_ = before;
    return inner;
  }

  void name() {
    const size_t begin = at_;
    while (!ended() && is_word_letter(text_[at_])) ++at_;
    if (at_ == begin || is_digit(text_[begin])) invalid("bad character in group name");
    const std::string name = text_.substr(begin, at_ - begin);
    if (std::find(names_.begin(), names_.end(), name) != names_.end())
      invalid("redefinition of group name");
    names_.push_back(name);
    if (!take(">")) invalid("missing >, unterminated name");
  }

  int closed(int inner) {
    if (!take(")")) invalid("missing ), unterminated subpattern");
    may_repeat_ = true;
    return inner;
  }

  int look(Kind kind, bool negated) {
    const int inner = closed(choice());
    const Node& node = nodes_[static_cast<size_t>(inner)];
    if (kind == Kind::kBehind && node.shortest != node.longest)
      invalid("look-behind requires fixed-width pattern");
    return add({.kind = kind, .children = {inner}, .negated = negated});
  }

  // Behind a backslash, outside of a set.
  int escape() {
    if (ended()) invalid("bad escape (end of pattern)");
    const char c = text_[at_];
    if (is_digit(c) && c != '0') unsupported("a backreference");
    if (take("A")) return assertion(Kind::kStart);
    if (take("Z")) return assertion(Kind::kEnd);
    if (take("b")) return assertion(Kind::kEdge);
    if (take("B")) return assertion(Kind::kEdge, true);
    return letter(escaped());
  }

  // What a backslash makes of the next letters, in a set and outside.
  Letters escaped() {
    const char c = next("bad escape (end of pattern)");
    if (const std::optional<Letters> several = category(c)) return *several;
    constexpr std::string_view kNames = "afnrtv", kMeant = "\a\f\n\r\t\v";
    if (const size_t i = kNames.find(c); i != std::string_view::npos) return only(kMeant[i]);
    if (c == 'x') return only(hexadecimal(2));
    if (c == 'u') return only(hexadecimal(4));
    if (c == 'U') return only(hexadecimal(8));
    if (c == 'N') unsupported("a letter by its name");
    if (is_octal(c)) {
      int64_t value = c - '0';
      for (int i = 0; i < 2 && !ended() && is_octal(text_[at_]); ++i)
        value = 8 * value + (text_[at_++] - '0');
      return only(value);
    }
    if (is_letter(c) || is_digit(c)) invalid(fmt::format("bad escape \\{}", c));
    return only(c);
  }

  static Letters only(int64_t code) {
    return letters_where([code](char each) { return each == code; });
  }

  int64_t hexadecimal(int digits) {
    int64_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = next("incomplete escape");
      const auto digit =
          std::string_view("0123456789abcdef").find(static_cast<char>(is_letter(c) ? c | 0x20 : c));
      if (digit == std::string_view::npos) invalid("incomplete escape");
      value = 16 * value + static_cast<int64_t>(digit);
    }
    return value;
  }

  // A letter of a set, or several; `code` is the letter's, or -1 for several.
  Letters member(int64_t& code) {
    const char c = next("unterminated character set");
    Letters letters = only(c);
    if (c == '\\') letters = take("b") ? only('\b') : escaped();
    code = -1;
    for (size_t i = 0; letters.count() == 1 && i < letters.size(); ++i) {
      if (letters[i]) code = static_cast<int64_t>(i);
    }
    return letters;
  }

  int letter_set() {
    const bool negated = take("^");
    Letters set;
    for (bool first = true; first || !is_next("]"); first = false) {
      int64_t low = 0, high = 0;
      set |= member(low);
      if (!is_next("-") || is_next("-]")) continue;
      take("-");
      member(high);
      if (low < 0 || high < low) invalid("bad character range");
      set |= letters_where([=](char each) { return each >= low && each <= high; });
    }
    take("]");
    if (ignore_case_) set = without_case(set);
    const Letters letters = negated ? ~set : set;
    return add({.kind = Kind::kLetter, .letters = letters, .shortest = 1, .longest = 1});
  }

  const std::string& text_;
  const std::string& where_;
  std::vector<Node> nodes_;
  size_t at_ = 0;
  bool ignore_case_ = false;
  bool may_repeat_ = false;  // what was read last
  std::vector<std::string> names_;
};

}  // namespace

bool is_word_letter(char c) { return is_letter(c) || is_digit(c) || c == '_'; }

std::vector<PatternNode> parse_pattern(const std::string& pattern, const std::string& where) {
  return Parser(pattern, where).parse();
}

}  // namespace tenon
