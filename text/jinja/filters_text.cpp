// SPDX-License-Identifier: Apache-2.0
// Filters that make a text of what they are given. Python's str() is taken of the input where it is
// no text.
#include <fmt/format.h>

#include "text/jinja/filters.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"
#include "text/jinja/text_functions.h"
#include "text/utf8.h"

namespace tenon::jinja {
namespace {

template <std::string (*kFunction)(std::string_view)>
Value mapped(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("this filter", arguments, {});
  return map_text(heap, to_text(heap, input), kFunction);
}

// Jinja2's title, which is not str.title: words begin after white space and "-({[<".
std::string title(std::string_view text) {
  const auto separates = [](const Utf8Char& c) {
    return is_space(c.code) || c.code == '-' || c.code == '(' || c.code == '{' || c.code == '[' ||
           c.code == '<';
  };
  std::string out;
  while (!text.empty()) {
    size_t end = 0, first = 0;
    while (end < text.size()) {
      const Utf8Char c = first_utf8(text.substr(end));
      if (separates(c)) break;
      end += c.length;
      if (first == 0) first = end;
    }
    out += to_upper(text.substr(0, first));
    out += to_lower(text.substr(first, end - first));
    text.remove_prefix(end);
    while (!text.empty() && separates(first_utf8(text))) {
      const size_t bytes = first_utf8(text).length;
      out += text.substr(0, bytes);
      text.remove_prefix(bytes);
    }
  }
  return out;
}

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out += c;
    }
  }
  return out;
}

// Marks a text as safe HTML in Jinja2. Chat templates write no HTML: here a text stays as it is.
std::string safe(std::string_view text) { return std::string(text); }

Value trim(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("trim", arguments, {"chars"});
  const Value text = to_text(heap, input);
  std::optional<std::string_view> chars;
  if (given.find_not_none(0)) {
    chars = given.text(0, {});
    heap.pass(chars->size() * text.bytes().size());
  }
  return heap.part(text, strip(text.bytes(), chars, Side::kBoth));
}

Value replace_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("replace", arguments, {"old", "new", "count"}, 2);
  const Value text = to_text(heap, input);
  const Value what = to_text(heap, given.at(0)), by = to_text(heap, given.at(1));
  const int64_t limit = given.find_not_none(2) ? given.integer(2, -1) : -1;
  return replace_text(heap, text, what.bytes(), by, limit);
}

Value center(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("center", arguments, {"width"});
  const Value text = to_text(heap, input);
  const Value method_of_text = method(heap, text, "center");
  Arguments width{{Value::integer(given.integer(0, 80))}, {}};
  return method_of_text.callable().call(width);
}

// A line end for the one that stands before `at`, from where that is.
void add_line_end(const Text& text, size_t at, TextBuilder& out) {
  Origin before;
  text.origins.each(at - 1, at, [&](size_t begin, size_t end, const Origin& one) {
    if (begin < end) before = one;
  });
  out.add("\n", before);
}

Value indent(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("indent", arguments, {"width", "first", "blank"});
  if (input.is(Kind::kUndefined)) fail_undefined(input);
  if (!input.is(Kind::kString)) {
    throw Fault(fmt::format("indent: expected a string, got {}", type_name(input)));
  }
  const Value width = given.find(0) ? given.at(0) : Value::integer(4);
  const Value spaces = width.is(Kind::kString)
                           ? width
                           : arithmetic(heap, Operation::kMultiply, constant_text(" "), width);
  const bool first = given.truth(1, false), blank = given.truth(2, false);
  heap.pass(input.bytes().size() * 4);
  const std::string_view text = input.bytes();
  const std::string ended = std::string(text) + "\n";
  TextBuilder out;
  bool begins = true;
  for (const std::string_view line : split_lines(ended, false)) {
    const auto at = static_cast<size_t>(line.data() - ended.data());
    if (!begins) add_line_end(input.text(), at, out);
    if (begins ? first : (blank || !line.empty())) out.add(spaces.text());
    out.add(input.text(), text.substr(at, line.size()));
    begins = false;
    heap.pass(spaces.bytes().size());
    heap.check(out.held());
  }
  return heap.text(std::move(out));
}

Value format_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    throw Fault("format: expected arguments with names or without, got both");
  }
  const Value text = to_text(heap, input);
  if (arguments.named.empty()) {
    return format_percent(heap, text, heap.tuple(arguments.positional));
  }
  Dict::Entries entries;
  for (const auto& [name, value] : arguments.named) entries.emplace_back(heap.text(name), value);
  return format_percent(heap, text, heap.dict(std::move(entries)));
}

Value truncate(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("truncate", arguments, {"length", "killwords", "end", "leeway"});
  if (input.is(Kind::kUndefined)) return input;
  if (!input.is(Kind::kString)) {
    throw Fault(fmt::format("truncate: expected a string, got {}", type_name(input)));
  }
  const Value& text = input;
  const int64_t most = given.integer(0, 255);
  const std::string_view end = given.text(2, "...");
  const int64_t leeway = given.find_not_none(3) ? given.integer(3, 5) : 5;
  if (most < code_points(end) || leeway < 0) {
    throw Fault("truncate: expected a length of at least its end's, and no negative leeway");
  }
  heap.pass(text.bytes().size());
  if (text.text().length <= most || text.text().length - most <= leeway) return text;
  std::string_view kept = text.bytes().substr(0, byte_of(text.bytes(), most - code_points(end)));
  if (!given.truth(1, false)) kept = split_right(kept, " ", 1)[0];
  TextBuilder out;
  out.add(text.text(), kept);
  if (given.find(2)) {
    out.add(given.at(2).text());
  } else {
    out.add(end);
  }
  return heap.text(std::move(out));
}

Value word_count(Heap& heap, const Value& input, const Arguments& arguments) {
  constexpr uint8_t kWord = 4;
  const Parameters none("wordcount", arguments, {});
  const Value value = to_text(heap, input);
  heap.step(value.text().length);
  std::string_view text = value.bytes();
  int64_t count = 0;
  for (bool within = false; !text.empty();) {
    const Utf8Char c = first_utf8(text);
    const bool word = (unicode_class_table()[c.code] & kWord) != 0;
    count += word && !within;
    within = word;
    text.remove_prefix(c.length);
  }
  return Value::integer(count);
}

constexpr Filter kFilters[] = {
    {"capitalize", mapped<capitalize>},
    {"center", center},
    {"e", mapped<escape>},
    {"escape", mapped<escape>},
    {"forceescape", mapped<escape>},
    {"format", format_filter},
    {"indent", indent},
    {"lower", mapped<to_lower>},
    {"replace", replace_filter},
    {"safe", mapped<safe>},
    {"striptags", nullptr},
    {"title", mapped<title>},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", mapped<to_upper>},
    {"urlencode", nullptr},
    {"urlize", nullptr},
    {"wordcount", word_count},
    {"wordwrap", nullptr},
    {"xmlattr", nullptr},
};

}  // namespace

std::span<const Filter> text_filters() { return kFilters; }

}  // namespace tenon::jinja
