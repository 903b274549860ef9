// SPDX-License-Identifier: Apache-2.0
// Filters over what can be iterated.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"
#include "text/jinja/text_functions.h"

namespace tenon::jinja {
namespace {

using Items = std::vector<Value>;

// Jinja2 makes the items of a generator when they are asked for: a fault shows only then.
Value generator_of(Heap& heap, const std::function<void(Items&)>& make) {
  Items made;
  std::string fault;
  try {
    make(made);
  } catch (const Fault& error) {
    fault = error.what();
  }
  return heap.generator(std::move(made), std::move(fault));
}

Value generated(Heap& heap, const Value& input,
                const std::function<void(const Value&, Items&)>& add) {
  return generator_of(heap, [&](Items& made) {
    std::string fault;
    const Value items = items_of(heap, input, &fault);
    for (const Value& item : items.sequence().items) {
      heap.step();
      add(item, made);
    }
    if (!fault.empty()) throw Fault(fault);
  });
}

Value ignoring_case(Heap& heap, const Value& value) {
  if (!value.is(Kind::kString)) return value;
  heap.step(value.text().length);
  return heap.text(to_lower(value.bytes()));
}

// Key and value of each item, for sorting and its like.
std::vector<std::pair<Value, Value>> with_keys(Heap& heap, const Value& input,
                                               const Value* attribute, bool case_sensitive) {
  std::vector<std::pair<Value, Value>> keyed;
  const Value items = items_of(heap, input);
  for (const Value& item : items.sequence().items) {
    heap.step();
    Value key = attribute ? part_of(heap, item, *attribute, nullptr) : item;
    keyed.emplace_back(case_sensitive ? key : ignoring_case(heap, key), item);
  }
  return keyed;
}

Value list_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("list", arguments, {});
  const Value items = items_of(heap, input);
  return heap.list(items.sequence().items);
}

Value items_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("items", arguments, {});
  Items items;
  if (input.is(Kind::kDict)) {
    for (const auto& [key, value] : input.dict().entries) items.push_back(heap.tuple({key, value}));
  } else if (!input.is(Kind::kUndefined)) {
    return heap.generator({}, fmt::format("items: expected a dict, got {}", type_name(input)));
  }
  return heap.generator(std::move(items));
}

Value first(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("first", arguments, {});
  std::string fault;
  const Value items = items_of(heap, input, &fault);
  const auto& all = items.sequence().items;
  if (input.is(Kind::kSequence) && !all.empty()) input.sequence().use = Sequence::Use::kPartly;
  if (!all.empty()) return all.front();
  if (!fault.empty()) throw Fault(fault);
  return heap.undefined("there is no first item: the sequence is empty");
}

bool is_generator(const Value& value) {
  return value.is(Kind::kSequence) && value.sequence().type == Sequence::Type::kGenerator;
}

Value last(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("last", arguments, {});
  if (is_generator(input)) throw Fault("last: a generator has no last item: use |list before");
  const Value items = items_of(heap, input);
  const auto& all = items.sequence().items;
  return all.empty() ? heap.undefined("there is no last item: the sequence is empty") : all.back();
}

Value reverse(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters none("reverse", arguments, {});
  const Value items = items_of(heap, input);
  Items all = items.sequence().items;
  std::reverse(all.begin(), all.end());
  if (is_generator(input)) return heap.list(std::move(all));
  if (!input.is(Kind::kString)) return heap.generator(std::move(all));
  TextBuilder text;
  for (const Value& one : all) text.add(one.text());
  return heap.text(std::move(text));
}

Value join(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("join", arguments, {"d", "attribute"});
  const Value separator = given.find(0) ? to_text(heap, given.at(0)) : heap.text(std::string());
  const Value items = items_of(heap, input);
  TextBuilder out;
  bool begins = true;
  for (const Value& item : items.sequence().items) {
    if (!begins) out.add(separator.text());
    begins = false;
    const Value* attribute = given.find_not_none(1);
    append_text(heap, attribute ? part_of(heap, item, *attribute, nullptr) : item, out);
    heap.pass(separator.bytes().size());
  }
  return heap.text(std::move(out));
}

// Whether map, select and their like look at the input at all.
bool is_looked_at(const Value& input) { return is_generator(input) || truth(input); }

Value map(Heap& heap, const Value& input, const Arguments& arguments) {
  if (!is_looked_at(input)) return heap.generator({});
  if (arguments.positional.empty()) {
    return generator_of(heap, [&](Items& made) {
      const Parameters given("map", arguments, {"attribute", "default"}, 1);
      const Value items = items_of(heap, input);
      for (const Value& item : items.sequence().items) {
        made.push_back(part_of(heap, item, given.at(0), given.find_not_none(1)));
      }
    });
  }
  const Value& name = arguments.positional[0];
  const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()},
                       arguments.named};
  return generated(heap, input, [&](const Value& item, Items& made) {
    if (!name.is(Kind::kString)) throw Fault("map: expected the name of a filter");
    made.push_back(find_filter(name.bytes()).apply(heap, item, rest));
  });
}

// select, reject, and those by an attribute.
template <bool kKeeps, bool kByAttribute>
Value select(Heap& heap, const Value& input, const Arguments& arguments) {
  if (!is_looked_at(input)) return heap.generator({});
  return generator_of(heap, [&](Items& made) {
    auto rest = arguments.positional.begin();
    const Value* attribute = nullptr;
    const Test* test = nullptr;
    if (kByAttribute) {
      if (rest == arguments.positional.end()) throw Fault("selectattr: expected an attribute");
      attribute = &*rest++;
    }
    if (rest != arguments.positional.end()) {
      if (!rest->is(Kind::kString)) throw Fault("select: expected the name of a test");
      test = &find_test((rest++)->bytes());
    }
    const Arguments others{{rest, arguments.positional.end()}, arguments.named};
    const Value items = items_of(heap, input);
    for (const Value& item : items.sequence().items) {
      heap.step();
      const Value part = attribute ? part_of(heap, item, *attribute, nullptr) : item;
      if ((test ? test->holds(heap, part, others) : truth(part)) == kKeeps) made.push_back(item);
    }
  });
}

Value unique(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("unique", arguments, {"case_sensitive", "attribute"});
  Items seen;
  return generated(heap, input, [&](const Value& item, Items& made) {
    Value key = given.find_not_none(1) ? part_of(heap, item, given.at(1), nullptr) : item;
    if (!given.truth(0, false)) key = ignoring_case(heap, key);
    check_key(key);
    if (std::any_of(seen.begin(), seen.end(),
                    [&](const Value& one) { return equal(heap, one, key); })) {
      return;
    }
    seen.push_back(key);
    made.push_back(item);
  });
}

void sort_by_keys(Heap& heap, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? ordered(heap, Comparison::kLess, b.first, a.first)
                   : ordered(heap, Comparison::kLess, a.first, b.first);
  });
}

Value values_of(Heap& heap, const std::vector<std::pair<Value, Value>>& keyed) {
  Items items;
  for (const auto& one : keyed) items.push_back(one.second);
  return heap.list(std::move(items));
}

Value sort(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = given.truth(1, false);
  auto keyed = with_keys(heap, input, nullptr, true);
  // "a,b" sorts by a, then by b.
  const Value* attribute = given.find_not_none(2);
  for (auto& [key, item] : keyed) {
    Items keys;
    if (attribute && attribute->is(Kind::kString)) {
      for (const std::string_view one : split(attribute->bytes(), ",", -1)) {
        keys.push_back(part_of(heap, item, heap.text(std::string(one)), nullptr));
      }
    } else {
      keys.push_back(attribute ? part_of(heap, item, *attribute, nullptr) : item);
    }
    for (Value& one : keys) {
      if (!case_sensitive) one = ignoring_case(heap, one);
    }
    key = heap.list(std::move(keys));
  }
  sort_by_keys(heap, keyed, given.truth(0, false));
  return values_of(heap, keyed);
}

Value dictsort(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (!input.is(Kind::kDict)) {
    throw Fault(fmt::format("dictsort: expected a dict, got {}", type_name(input)));
  }
  const std::string_view by = given.text(1, "key");
  if (by != "key" && by != "value") throw Fault("dictsort: expected to sort by key or value");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : input.dict().entries) {
    const Value& sorted = by == "key" ? key : value;
    keyed.emplace_back(given.truth(0, false) ? sorted : ignoring_case(heap, sorted),
                       heap.tuple({key, value}));
  }
  sort_by_keys(heap, keyed, given.truth(2, false));
  return values_of(heap, keyed);
}

template <Comparison kComparison>
Value extreme(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("max", arguments, {"case_sensitive", "attribute"});
  const auto keyed = with_keys(heap, input, given.find_not_none(1), given.truth(0, false));
  if (keyed.empty()) return heap.undefined("there is no such item: the sequence is empty");
  const auto* best = &keyed[0];
  for (const auto& one : keyed) {
    if (&one != best && ordered(heap, kComparison, one.first, best->first)) best = &one;
  }
  return best->second;
}

Value sum(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("sum", arguments, {"attribute", "start"});
  Value total = given.find(1) ? given.at(1) : Value::integer(0);
  if (total.is(Kind::kString)) throw Fault("sum: strings are joined with |join");
  const Value items = items_of(heap, input);
  for (const Value& item : items.sequence().items) {
    const Value* attribute = given.find_not_none(0);
    total = arithmetic(heap, Operation::kAdd, total,
                       attribute ? part_of(heap, item, *attribute, nullptr) : item);
  }
  return total;
}

Value batch(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("batch", arguments, {"linecount", "fill_with"}, 1);
  return generator_of(heap, [&](Items& lines) {
    const int64_t count = given.integer(0, 0);
    const Value* fill = given.find_not_none(1);
    Items line;
    const Value items = items_of(heap, input);
    for (const Value& item : items.sequence().items) {
      if (static_cast<int64_t>(line.size()) == count) {
        lines.push_back(heap.list(std::exchange(line, {})));
      }
      line.push_back(item);
    }
    if (line.empty()) return;
    for (; fill && static_cast<int64_t>(line.size()) < count; heap.step()) line.push_back(*fill);
    lines.push_back(heap.list(std::move(line)));
  });
}

Value slice_filter(Heap& heap, const Value& input, const Arguments& arguments) {
  const Parameters given("slice", arguments, {"slices", "fill_with"}, 1);
  return generator_of(heap, [&](Items& parts) {
    const int64_t slices = given.integer(0, 0);
    const Value* fill = given.find_not_none(1);
    const Value items = items_of(heap, input);
    const auto& all = items.sequence().items;
    const auto count = static_cast<int64_t>(all.size());
    if (slices == 0) throw Fault("slice: division by zero");
    int64_t begin = 0;
    for (int64_t i = 0; i < slices; ++i) {
      const bool extra = i < count % slices;
      const int64_t end = begin + count / slices + (extra ? 1 : 0);
      Items part(all.begin() + begin, all.begin() + end);
      if (fill && !extra) part.push_back(*fill);
      parts.push_back(heap.list(std::move(part)));
      begin = end;
    }
  });
}

constexpr Filter kFilters[] = {
    {"batch", batch},
    {"dictsort", dictsort},
    {"first", first},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"list", list_filter},
    {"map", map},
    {"max", extreme<Comparison::kGreater>},
    {"min", extreme<Comparison::kLess>},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"slice", slice_filter},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

Value part_of(Heap& heap, const Value& value, const Value& attribute, const Value* fallback) {
  const auto step_into = [&](const Value& from, const Value& key) {
    Value part = item(heap, from, key);
    return part.is(Kind::kUndefined) && fallback ? *fallback : part;
  };
  if (!attribute.is(Kind::kString)) return step_into(value, attribute);
  Value part = value;
  for (const std::string_view name : split(attribute.bytes(), ".", -1)) {
    const bool index = is_all(name, TextClass::kDigit) && name.size() < 10;
    part = step_into(
        part, index ? Value::integer(std::stoll(std::string(name))) : heap.text(std::string(name)));
  }
  return part;
}

std::span<const Filter> sequence_filters() { return kFilters; }

}  // namespace tenon::jinja
