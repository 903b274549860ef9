// SPDX-License-Identifier: Apache-2.0
#include "core/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/error.h"
#include "core/file.h"

namespace tenon {
namespace {

// Walks the text and leaves its place where the builder can see it: the parser's events carry none.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    const CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** seen_;
};

std::string place(std::string_view text, size_t byte, const std::string& where) {
  const std::string_view before = text.substr(0, byte);
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t newline = before.rfind('\n');
  return fmt::format("{}:{}:{}", where, line, newline == before.npos ? byte + 1 : byte - newline);
}

// The part of `message` after `begin`; empty without it.
std::string_view after(std::string_view message, std::string_view begin) {
  const size_t at = message.find(begin);
  return at == message.npos ? std::string_view() : message.substr(at + begin.size());
}

// The part between `begin` and `end`, or up to the end of the message.
std::string_view between(std::string_view message, std::string_view begin, std::string_view end) {
  const std::string_view rest = after(message, begin);
  return rest.substr(0, rest.find(end));
}

// The library says "...syntax error while parsing <context> - <fault>; expected <token>", where
// <fault> is "unexpected <token>" or "<lexer's words>; last read: '<text>'", and the lexer's words
// may be "<kind>; expected <what>". Ours says what was expected, then what was found; `word` is the
// text up to the fault. What was read last is the file's own bytes, of which none may be passed on
// as they are.
std::string expected_and_got(std::string_view message, std::string_view word) {
  const std::string_view context = between(message, "while parsing ", " - ");
  const std::string_view fault = after(message, " - ");
  const size_t read = fault.find("; last read: '");
  const size_t end = read == fault.npos ? fault.find("; expected ") : fault.rfind("'; expected ");
  std::string expected;
  if (end != fault.npos) expected = printable(after(fault.substr(end), "; expected "));
  if (context == "array" && expected == "']'") expected = "',' or ']'";
  if (context == "object" && expected == "'}'") expected = "',' or '}'";
  if (expected.empty() || expected == "'[', '{', or a literal") expected = "a value";
  if (expected == "string literal") expected = "a string in double quotes";
  if (expected == "end of input") expected = "the end of the text";
  if (read == fault.npos) {
    const std::string_view unexpected = between(fault, "unexpected ", ";");
    return fmt::format("expected {}, got {}", expected,
                       unexpected == "end of input" ? "the end of the text" : unexpected);
  }
  const std::string_view lexer = fault.substr(0, read);
  if (const std::string_view own = after(lexer, "; expected "); !own.empty()) expected = own;
  return fmt::format("expected {}, got {} at \"{}\"", expected, lexer.substr(0, lexer.find(';')),
                     printable(word, 60));
}

// The names of one object, of which each may stand once.
template <class Value>
class Names {
 public:
  // False where `object` has the name already. An ordered object is searched from its front, so that
  // many names are kept in a set beside it.
  bool add(const Value& object, const std::string& name) {
    constexpr size_t kFew = 16;
    if (std::is_same_v<Value, Json> || object.size() < kFew) return !object.contains(name);
    if (seen_.empty()) {
      for (const auto& [known, value] : object.items()) seen_.insert(known);
    }
    return seen_.insert(name).second;
  }

 private:
  std::unordered_set<std::string> seen_;  // empty while there are few
};

// Builds the value from the parser's events, or the members of the outermost object one at a time.
template <class Value>
class Builder : public nlohmann::json_sax<Value> {
 public:
  using Sax = nlohmann::json_sax<Value>;
  using typename Sax::binary_t;
  using typename Sax::number_float_t;
  using typename Sax::number_integer_t;
  using typename Sax::number_unsigned_t;
  using typename Sax::string_t;

  Builder(std::string_view text, const std::string& where, const JsonMember* member)
      : text_(text), where_(where), member_(member), seen_(text.data()) {}

  Value build() {
    Value::sax_parse(CountingIterator(text_.data(), &seen_),
                     CountingIterator(text_.data() + text_.size(), &seen_), this);
    return std::move(root_);
  }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(size_t) override { return open(Value::object()); }
  bool start_array(size_t) override { return open(Value::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    key_byte_ = byte();
    if (!open_.back().names.add(*open_.back().value, name)) {
      fail_input("{}: invalid JSON: expected each key once, got \"{}\" twice",
                 place(text_, key_byte_ - 1, where_), printable(name));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const size_t at = std::min(std::max<size_t>(position, 1) - 1, text_.size());
    const std::string here = place(text_, at, where_);
    const std::string_view rest = text_.substr(at);
    if (rest.starts_with("NaN") || rest.starts_with("Infinity")) {
      fail_input(
          "{}: invalid JSON: expected a finite number, got {} (Python writes it, JSON has none)",
          here, rest[0] == 'N' ? "NaN" : "Infinity");
    }
    const std::string_view message = error.what();
    if (const std::string_view overflow = after(message, "number overflow parsing ");
        !overflow.empty()) {
      fail_input("{}: invalid JSON: expected a number that fits 64 bits, got {}", here,
                 printable(overflow, 60));
    }
    const size_t begin = text_.substr(0, at).find_last_of(" \t\r\n,:[]{}") + 1;  // npos + 1 is 0
    const std::string_view word = text_.substr(begin, at + 1 - begin);
    fail_input("{}: invalid JSON: {}", here, expected_and_got(message, word));
  }

 private:
  size_t byte() const { return static_cast<size_t>(seen_ - text_.data()); }

  // Puts a value where the text has it, and says where that is.
  Value* place_value(Value&& value) {
    if (open_.empty()) {
      if (member_ != nullptr && !value.is_object()) {
        fail_input("{}: expected a JSON object, got {}", where_, brief(value));
      }
      root_ = std::move(value);
      return &root_;
    }
    Value& parent = *open_.back().value;
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    if constexpr (std::is_same_v<Value, Json>) {
      return &(parent[key_] = std::move(value));
    } else {  // operator[] would look for the key among all
      auto& members = parent.template get_ref<typename Value::object_t&>();
      members.push_back({std::move(key_), std::move(value)});
      return &members.back().second;
    }
  }

  // A member is held as a whole, so its size is bounded.
  void count() {
    if (member_ == nullptr || ++member_values_ <= kJsonMemberValues) return;
    fail_input("{}: expected at most {} values in one member, got more",
               place(text_, byte() - 1, where_), kJsonMemberValues);
  }

  bool add(Value&& value) {
    count();
    place_value(std::move(value));
    hand_over();
    return true;
  }

  bool open(Value&& container) {
    count();
    if (open_.size() >= kJsonDepth) {
      fail_input("{}: invalid JSON: expected at most {} levels of nesting, got more",
                 place(text_, byte() - 1, where_), kJsonDepth);
    }
    if (member_ != nullptr && open_.size() == 1) {
      member_name_ = key_;
      member_byte_ = key_byte_;
    }
    open_.push_back({place_value(std::move(container)), {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    if (member_ != nullptr && open_.size() == 1) {
      key_ = std::move(member_name_);
      key_byte_ = member_byte_;
    }
    hand_over();
    return true;
  }

  // Gives a finished member of the outermost object away.
  void hand_over() {
    if constexpr (std::is_same_v<Value, Json>) {
      if (member_ == nullptr || open_.size() != 1) return;
      (*member_)(key_, *root_.begin(), static_cast<int64_t>(key_byte_));
      root_.clear();
      member_values_ = 0;
    }
  }

  struct Open {
    Value* value;
    Names<Value> names;
  };

  std::string_view text_;
  const std::string& where_;
  const JsonMember* member_;
  const char* seen_;
  Value root_;
  std::vector<Open> open_;  // outermost first; a parent does not grow while a child is open, so
                            // pointers stay good
  std::string key_, member_name_;
  size_t key_byte_ = 0, member_byte_ = 0;
  int64_t member_values_ = 0;
};

template <class Value>
Value parse(std::string_view text, const std::string& where, const JsonMember* member) {
  const bool utf16 = text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF") ||
                     (text.size() >= 2 && (text[0] == '\0') != (text[1] == '\0'));
  if (text.empty()) fail_input("{}: invalid JSON: expected a value, got nothing (empty)", where);
  if (utf16) fail_input("{}: invalid JSON: expected UTF-8, got UTF-16", where);
  if (text.starts_with("\xEF\xBB\xBF")) {
    fail_input("{}: invalid JSON: expected UTF-8 without a byte order mark, got one", where);
  }
  // The library takes NUL for the end of the text; JSON has no place for one.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    fail_input("{}: invalid JSON: expected text, got a NUL byte", place(text, nul, where));
  }
  return Builder<Value>(text, where, member).build();
}

std::string range(int64_t min, int64_t max) {
  return fmt::format("an integer in {}..{}", min, max);
}
std::string range(double min, double max) {
  return fmt::format("a number in {:g}..{:g}", min, max);
}

std::optional<int64_t> integer_of(const Json& value, int64_t min, int64_t max) {
  if (!value.is_number_integer()) return {};
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return {};
  }
  const auto number = value.get<int64_t>();
  return number >= min && number <= max ? std::optional(number) : std::nullopt;
}

template <class Value>
std::string brief_of(const Value& value) {
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return printable(value.dump(-1, ' ', false, Value::error_handler_t::replace));
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  return parse<Json>(text, where, nullptr);
}

OrderedJson parse_ordered_json(std::string_view text, const std::string& where) {
  return parse<OrderedJson>(text, where, nullptr);
}

Json parse_json_file(const std::filesystem::path& path, int64_t max_bytes) {
  return parse_json(read_text(path, max_bytes), shown(path));
}

void parse_json_members(std::string_view text, const std::string& where, const JsonMember& member) {
  parse<Json>(text, where, &member);
}

std::string brief(const Json& value) { return brief_of(value); }
std::string brief(const OrderedJson& value) { return brief_of(value); }

JsonObject::JsonObject(std::shared_ptr<const Json> value, std::string where, std::string prefix)
    : value_(std::move(value)), where_(std::move(where)), prefix_(std::move(prefix)) {
  if (!value_->is_object()) {
    fail_input("{}: expected a JSON object, got {}", where_, brief(*value_));
  }
}

JsonObject::JsonObject(Json value, std::string where)
    : JsonObject(std::make_shared<const Json>(std::move(value)), std::move(where), "") {}

JsonObject JsonObject::read(const std::filesystem::path& path, int64_t max_bytes) {
  return JsonObject(parse_json_file(path, max_bytes), shown(path));
}

const Json* JsonObject::find(const std::string& key) const {
  const auto found = value_->find(key);
  return found == value_->end() ? nullptr : &*found;
}

bool JsonObject::absent_or_null(const std::string& key) const {
  const Json* field = find(key);
  return field == nullptr || field->is_null();
}

std::vector<std::string> JsonObject::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : value_->items()) names.push_back(name);
  return names;
}

void JsonObject::reject(const std::string& key, const std::string& expected) const {
  const Json* field = find(key);
  fail_input("{}: field \"{}\": expected {}, got {}", where_, printable(prefix_ + key), expected,
             field == nullptr ? "nothing (the field is missing)" : brief(*field));
}

const Json& JsonObject::required(const std::string& key, const std::string& expected) const {
  const Json* field = find(key);
  if (field == nullptr) reject(key, expected);
  return *field;
}

int64_t JsonObject::integer(const std::string& key, int64_t min, int64_t max) const {
  const std::optional<int64_t> value = integer_of(required(key, range(min, max)), min, max);
  if (!value) reject(key, range(min, max));
  return *value;
}

int64_t JsonObject::integer(const std::string& key, int64_t min, int64_t max,
                            int64_t fallback) const {
  return has(key) ? integer(key, min, max) : fallback;
}

std::optional<int64_t> JsonObject::optional_integer(const std::string& key, int64_t min,
                                                    int64_t max) const {
  if (absent_or_null(key)) return {};
  return integer(key, min, max);
}

std::vector<int64_t> JsonObject::integers(const std::string& key, int64_t min, int64_t max) const {
  if (absent_or_null(key)) return {};
  const Json& field = *find(key);
  if (!field.is_array()) return {integer(key, min, max)};
  std::vector<int64_t> values;
  for (const Json& item : field) {
    const std::optional<int64_t> value = integer_of(item, min, max);
    if (!value) {
      fail_input("{}: field \"{}[{}]\": expected {}, got {}", where_, printable(prefix_ + key),
                 values.size(), range(min, max), brief(item));
    }
    values.push_back(*value);
  }
  return values;
}

double JsonObject::number(const std::string& key, double min, double max) const {
  const Json& field = required(key, range(min, max));
  if (!field.is_number()) reject(key, range(min, max));
  const auto value = field.get<double>();
  if (!(value >= min && value <= max)) reject(key, range(min, max));
  return value;
}

double JsonObject::number(const std::string& key, double min, double max, double fallback) const {
  return has(key) ? number(key, min, max) : fallback;
}

std::optional<double> JsonObject::optional_number(const std::string& key, double min,
                                                  double max) const {
  if (absent_or_null(key)) return {};
  return number(key, min, max);
}

bool JsonObject::boolean(const std::string& key) const {
  const Json& field = required(key, "true or false");
  if (!field.is_boolean()) reject(key, "true or false");
  return field.get<bool>();
}

bool JsonObject::boolean(const std::string& key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

std::string JsonObject::text(const std::string& key) const {
  const Json& field = required(key, "a string");
  if (!field.is_string()) reject(key, "a string");
  return field.get<std::string>();
}

std::string JsonObject::text(const std::string& key, const std::string& fallback) const {
  return has(key) ? text(key) : fallback;
}

std::optional<std::string> JsonObject::optional_text(const std::string& key) const {
  if (absent_or_null(key)) return {};
  return text(key);
}

std::string JsonObject::choice(const std::string& key,
                               std::initializer_list<std::string_view> choices) const {
  const std::string expected = fmt::format("one of {}", fmt::join(choices, ", "));
  const Json& field = required(key, expected);
  const std::string value = field.is_string() ? field.get<std::string>() : "";
  if (std::find(choices.begin(), choices.end(), value) != choices.end() && field.is_string()) {
    return value;
  }
  const std::string_view near = nearest(value, choices);
  if (near.empty()) reject(key, expected);
  fail_input("{}: field \"{}\": expected {}, got {} (did you mean {}?)", where_,
             printable(prefix_ + key), expected, brief(field), near);
}

std::string JsonObject::choice(const std::string& key,
                               std::initializer_list<std::string_view> choices,
                               const std::string& fallback) const {
  return has(key) ? choice(key, choices) : fallback;
}

JsonObject JsonObject::object(const std::string& key) const {
  const Json& field = required(key, "an object");
  if (!field.is_object()) reject(key, "an object");
  return JsonObject(std::shared_ptr<const Json>(value_, &field), where_, prefix_ + key + ".");
}

std::optional<JsonObject> JsonObject::optional_object(const std::string& key) const {
  if (absent_or_null(key)) return {};
  return object(key);
}

}  // namespace tenon
