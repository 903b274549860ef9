// SPDX-License-Identifier: Apache-2.0
// The methods of strings.
#include "text/jinja/methods.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"
#include "text/jinja/text_functions.h"

namespace tenon::jinja {
namespace {

using View = std::string_view;

Value texts(Heap& heap, const Value& whole, const std::vector<View>& parts) {
  std::vector<Value> items;
  for (const View part : parts) items.push_back(heap.part(whole, part));
  return heap.list(std::move(items));
}

// A method without arguments that makes a text of a text.
template <std::string (*kFunction)(View)>
Value mapped(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters none("this method of a string", arguments, {});
  return map_text(heap, self, kFunction);
}

template <TextClass kClass>
Value is_of(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters none("this method of a string", arguments, {});
  heap.step(self.text().length);
  return Value::boolean(is_all(self.bytes(), kClass));
}

template <Side kSide>
Value stripped(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("strip", arguments, {"chars"});
  std::optional<View> chars;
  if (given.find_not_none(0)) {
    chars = given.text(0, {});
    heap.pass(chars->size() * self.bytes().size());
  }
  return heap.part(self, strip(self.bytes(), chars, kSide));
}

template <bool kRight>
Value split_up(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("split", arguments, {"sep", "maxsplit"});
  std::optional<View> separator;
  if (given.find_not_none(0)) separator = given.text(0, {});
  if (separator && separator->empty()) throw Fault("split: the separator is empty");
  heap.pass(self.bytes().size());
  const int64_t limit = given.integer(1, -1);
  return texts(
      heap, self,
      kRight ? split_right(self.bytes(), separator, limit) : split(self.bytes(), separator, limit));
}

Value lines(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("splitlines", arguments, {"keepends"});
  heap.step(self.text().length / 4);
  return texts(heap, self, split_lines(self.bytes(), given.truth(0, false)));
}

template <bool kRight>
Value partitioned(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("partition", arguments, {"sep"}, 1);
  const View text = self.bytes(), separator = given.text(0, {});
  if (separator.empty()) throw Fault("partition: the separator is empty");
  heap.pass(text.size());
  const size_t at = kRight ? find_last(text, separator) : find(text, separator);
  if (at == text.npos) {
    const Value none = heap.text(std::string());
    return kRight ? heap.tuple({none, none, self}) : heap.tuple({self, none, none});
  }
  return heap.tuple({heap.part(self, text.substr(0, at)),
                     heap.part(self, text.substr(at, separator.size())),
                     heap.part(self, text.substr(at + separator.size()))});
}

// The part of a text that find() and its like look at.
struct Window {
  View text;
  int64_t start;  // code points before it
  bool valid;     // false: start is beyond the end, where even the empty text is not found
};
Window window(Heap& heap, const Value& self, const Parameters& given, size_t first) {
  heap.pass(self.bytes().size());
  const int64_t length = self.text().length;
  const auto place = [&](size_t parameter, int64_t fallback) {
    const int64_t at = given.find_not_none(parameter) ? given.integer(parameter, 0) : fallback;
    return std::max<int64_t>(at < 0 ? at + length : at, 0);
  };
  const int64_t start = place(first, 0), stop = std::min(place(first + 1, length), length);
  if (start > length || start > stop) return {{}, start, false};
  const View all = self.bytes();
  const size_t begin = byte_of(all, start);
  return {all.substr(begin, byte_of(all.substr(begin), stop - start)), start, true};
}

template <bool kRight, bool kRaises>
Value found_at(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("find", arguments, {"sub", "start", "end"}, 1);
  const Window where = window(heap, self, given, 1);
  const View what = given.text(0, {});
  size_t at = View::npos;
  if (where.valid) at = kRight ? find_last(where.text, what) : find(where.text, what);
  if (at != View::npos) return Value::integer(where.start + code_points(where.text.substr(0, at)));
  if (kRaises) throw Fault("index: the text is not found");
  return Value::integer(-1);
}

Value counted(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("count", arguments, {"sub", "start", "end"}, 1);
  const Window where = window(heap, self, given, 1);
  const View what = given.text(0, {});
  if (!where.valid) return Value::integer(0);
  if (what.empty()) return Value::integer(code_points(where.text) + 1);
  return Value::integer(occurrences(where.text, what));
}

template <bool kEnd>
Value touches(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given(kEnd ? "endswith" : "startswith", arguments, {"prefix", "start", "end"},
                         1);
  const Window where = window(heap, self, given, 1);
  const auto one = [&](const Value& what) {
    if (what.is(Kind::kUndefined)) fail_undefined(what);
    if (!what.is(Kind::kString)) {
      throw Fault(fmt::format("{}: expected a string or a tuple of strings, got {}",
                              kEnd ? "endswith" : "startswith", type_name(what)));
    }
    heap.step();
    return where.valid &&
           (kEnd ? where.text.ends_with(what.bytes()) : where.text.starts_with(what.bytes()));
  };
  const Value& what = given.at(0);
  if (!what.is(Kind::kSequence) || what.sequence().type != Sequence::Type::kTuple) {
    return Value::boolean(one(what));
  }
  const auto& all = what.sequence().items;
  return Value::boolean(std::any_of(all.begin(), all.end(), one));
}

Value replaced(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("replace", arguments, {"old", "new", "count"}, 2);
  const View what = given.text(0, {});
  given.text(1, {});
  return replace_text(heap, self, what, given.at(1), given.integer(2, -1));
}

Value joined(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("join", arguments, {"iterable"}, 1);
  const Value items = items_of(heap, given.at(0));
  TextBuilder out;
  for (const Value& item : items.sequence().items) {
    if (!item.is(Kind::kString)) {
      throw Fault(fmt::format("join: expected strings, got {}", type_name(item)));
    }
    if (&item != items.sequence().items.data()) out.add(self.text());
    out.add(item.text());
    heap.pass(item.bytes().size() + self.bytes().size());
    heap.check(out.held());
  }
  return heap.text(std::move(out));
}

template <bool kEnd>
Value removed(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("removeprefix", arguments, {"prefix"}, 1);
  View text = self.bytes();
  const View what = given.text(0, {});
  if (!kEnd && text.starts_with(what)) text.remove_prefix(what.size());
  if (kEnd && text.ends_with(what)) text.remove_suffix(what.size());
  return heap.part(self, text);
}

enum class Place { kLeft, kRight, kCenter };
template <Place kPlace>
Value filled(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("ljust", arguments, {"width", "fillchar"}, 1);
  const View fill = given.text(1, " ");
  if (code_points(fill) != 1) throw Fault("ljust: expected one character to fill with");
  const int64_t width = given.integer(0, 0), missing = width - self.text().length;
  if (missing <= 0) return self;
  // Where they differ, Python puts the odd one to the left of a text of odd width.
  const int64_t left = kPlace == Place::kLeft    ? 0
                       : kPlace == Place::kRight ? missing
                                                 : missing / 2 + (missing & width & 1);
  const auto repeated = [&](int64_t count) {
    return arithmetic(heap, Operation::kMultiply, given.find(1) ? given.at(1) : constant_text(" "),
                      Value::integer(count));
  };
  const Value before = repeated(left), after = repeated(missing - left);
  TextBuilder out;
  for (const Value& part : {before, self, after}) out.add(part.text());
  return heap.text(std::move(out));
}

Value zero_filled(Heap& heap, const Value& self, const Arguments& arguments) {
  const Parameters given("zfill", arguments, {"width"}, 1);
  const int64_t missing = given.integer(0, 0) - self.text().length;
  if (missing <= 0) return self;
  heap.check(missing);
  const View text = self.bytes();
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  TextBuilder out;
  out.add(self.text(), text.substr(0, sign));
  out.add(std::string(static_cast<size_t>(missing), '0'));
  out.add(self.text(), text.substr(sign));
  return heap.text(std::move(out));
}

// str.format with {}, {0} and {name}; what else it knows is refused.
Value formatted(Heap& heap, const Value& self, const Arguments& arguments) {
  const View text = self.bytes();
  TextBuilder out;
  size_t next = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c != '{' && c != '}') {
      const size_t end = std::min(text.find_first_of("{}", at), text.size());
      out.add(self.text(), text.substr(at, end - at));
      at = end - 1;
      continue;
    }
    if (at + 1 < text.size() && text[at + 1] == c) {
      out.add(self.text(), text.substr(at, 1));
      ++at;
      continue;
    }
    const size_t end = c == '{' ? text.find('}', at) : text.npos;
    if (end == text.npos) throw Fault("format: a single { or }");
    const View name = text.substr(at + 1, end - at - 1);
    at = end;
    const Value* value = nullptr;
    if (name.find_first_of("!:.[{") != name.npos) {
      throw Fault(fmt::format("format: {{{}}} is not supported", printable(name, 40)));
    }
    if (name.empty() ||
        std::all_of(name.begin(), name.end(), [](char d) { return d >= '0' && d <= '9'; })) {
      const size_t index = name.empty() ? next++ : std::stoul(std::string(name.substr(0, 9)));
      if (index < arguments.positional.size()) value = &arguments.positional[index];
    } else {
      for (const auto& [key, held] : arguments.named) {
        if (key == name) value = &held;
      }
    }
    if (!value) throw Fault(fmt::format("format: {{{}}} has no value", printable(name, 40)));
    append_text(heap, *value, out);
  }
  return heap.text(std::move(out));
}

}  // namespace

Value map_text(Heap& heap, const Value& value, std::string (*function)(View)) {
  const Text& text = value.text();
  const View bytes = text.bytes;
  heap.step(text.length);
  std::string mapped = function(bytes);
  if (text.origins.is_one()) return heap.text(std::move(mapped), text.origins);
  const bool in_place = text.ascii() && mapped.size() == bytes.size();
  TextBuilder out;
  text.origins.each(0, bytes.size(), [&](size_t, size_t end, const Origin& one) {
    size_t to = end == bytes.size() ? mapped.size() : end;
    if (!in_place && end < bytes.size()) {
      heap.step(static_cast<int64_t>(end));
      to = function(bytes.substr(0, end)).size();
    }
    out.add(View(mapped).substr(out.size(), to - out.size()), one);
  });
  return heap.text(std::move(out));
}

Value replace_text(Heap& heap, const Value& value, View what, const Value& by, int64_t limit) {
  View rest = value.bytes();
  heap.pass(rest.size());
  TextBuilder out;
  if (what.empty()) {
    // Before each character and at the end.
    for (int64_t done = 0; limit < 0 || done < limit; ++done) {
      out.add(by.text());
      heap.pass(by.bytes().size());
      heap.check(out.held());
      if (rest.empty()) break;
      const size_t bytes = byte_of(rest, 1);
      out.add(value.text(), rest.substr(0, bytes));
      rest.remove_prefix(bytes);
    }
    out.add(value.text(), rest);
    return heap.text(std::move(out));
  }
  for (size_t at = 0; limit != 0 && (at = find(rest, what)) != rest.npos; --limit) {
    out.add(value.text(), rest.substr(0, at));
    out.add(by.text());
    heap.check(out.held());
    rest.remove_prefix(at + what.size());
  }
  out.add(value.text(), rest);
  return heap.text(std::move(out));
}

const Method kTextMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"casefold", nullptr},
    {"center", filled<Place::kCenter>},
    {"count", counted},
    {"encode", nullptr},
    {"endswith", touches<true>},
    {"expandtabs", nullptr},
    {"find", found_at<false, false>},
    {"format", formatted},
    {"format_map", nullptr},
    {"index", found_at<false, true>},
    {"isalnum", is_of<TextClass::kAlnum>},
    {"isalpha", is_of<TextClass::kAlpha>},
    {"isascii", is_of<TextClass::kAscii>},
    {"isdecimal", is_of<TextClass::kDecimal>},
    {"isdigit", is_of<TextClass::kDigit>},
    {"isidentifier", nullptr},
    {"islower", is_of<TextClass::kLower>},
    {"isnumeric", nullptr},
    {"isprintable", nullptr},
    {"isspace", is_of<TextClass::kSpace>},
    {"istitle", is_of<TextClass::kTitle>},
    {"isupper", is_of<TextClass::kUpper>},
    {"join", joined},
    {"ljust", filled<Place::kLeft>},
    {"lower", mapped<to_lower>},
    {"lstrip", stripped<Side::kLeft>},
    {"maketrans", nullptr},
    {"partition", partitioned<false>},
    {"removeprefix", removed<false>},
    {"removesuffix", removed<true>},
    {"replace", replaced},
    {"rfind", found_at<true, false>},
    {"rindex", found_at<true, true>},
    {"rjust", filled<Place::kRight>},
    {"rpartition", partitioned<true>},
    {"rsplit", split_up<true>},
    {"rstrip", stripped<Side::kRight>},
    {"split", split_up<false>},
    {"splitlines", lines},
    {"startswith", touches<false>},
    {"strip", stripped<Side::kBoth>},
    {"swapcase", mapped<swap_case>},
    {"title", mapped<to_title>},
    {"translate", nullptr},
    {"upper", mapped<to_upper>},
    {"zfill", zero_filled},
};

std::span<const Method> text_methods() { return kTextMethods; }

}  // namespace tenon::jinja
