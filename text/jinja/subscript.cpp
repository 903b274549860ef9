// SPDX-License-Identifier: Apache-2.0
// Attributes, items and slices.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace tenon::jinja {
namespace {

Value missing(Heap& heap, const Value& value, const std::string& what) {
  const std::string owner =
      value.is(Kind::kNone) ? "None" : fmt::format("{} object", type_name(value));
  return heap.undefined(fmt::format("{} has no {}", owner, what));
}

struct CycleOfLoop : Callable {
  CycleOfLoop(Heap* heap, const Value& loop)
      : Callable(heap, "loop.cycle", Heap::checked_depth(loop.depth() + 1)), owner(loop) {}
  Value call(Arguments& arguments) override {
    if (arguments.positional.empty()) throw Fault("loop.cycle() expects values");
    const auto index = static_cast<size_t>(owner.loop().index);
    return arguments.positional[index % arguments.positional.size()];
  }
  Value owner;
};

struct ChangedOfLoop : Callable {
  ChangedOfLoop(Heap* heap, const Value& loop)
      : Callable(heap, "loop.changed", Heap::checked_depth(loop.depth() + 1)),
        heap_of_values(*heap),
        owner(loop) {}
  Value call(Arguments& arguments) override {
    if (owner.loop().ended) throw Fault("loop.changed() is called after the loop");
    Value now = heap_of_values.tuple(std::move(arguments.positional));
    Value& last = owner.loop().last_changed;
    if (equal(heap_of_values, last, now)) return Value::boolean(false);
    last = std::move(now);
    return Value::boolean(true);
  }
  Heap& heap_of_values;
  Value owner;
};

Value loop_attribute(Heap& heap, const Value& value, std::string_view name) {
  const Loop& loop = value.loop();
  const auto count = static_cast<int64_t>(loop.items.size());
  const auto at = [&](int64_t index) { return loop.items[static_cast<size_t>(index)]; };
  if (name == "index") return Value::integer(loop.index + 1);
  if (name == "index0") return Value::integer(loop.index);
  if (name == "revindex") return Value::integer(count - loop.index);
  if (name == "revindex0") return Value::integer(count - loop.index - 1);
  if (name == "first") return Value::boolean(loop.index == 0);
  if (name == "last") return Value::boolean(loop.index + 1 == count);
  if (name == "length") return Value::integer(count);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") {
    return loop.index > 0 ? at(loop.index - 1) : heap.undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return loop.index + 1 < count ? at(loop.index + 1) : heap.undefined("there is no next item");
  }
  if (name == "cycle") return {Kind::kCallable, std::make_shared<CycleOfLoop>(&heap, value)};
  if (name == "changed") return {Kind::kCallable, std::make_shared<ChangedOfLoop>(&heap, value)};
  return missing(heap, value, fmt::format("attribute \"{}\"", printable(name, 40)));
}

// The attribute as Python has it, without items; None where there is none.
Value own_attribute(Heap& heap, const Value& value, std::string_view name, bool& found) {
  found = true;
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (value.is(Kind::kLoop)) return loop_attribute(heap, value, name);
  if (value.is(Kind::kCallable)) {
    throw Fault(
        fmt::format("attributes of functions (\"{}\") are not supported", printable(name, 40)));
  }
  if (value.is(Kind::kNamespace)) {
    for (const auto& [key, held] : value.name_space().attributes) {
      if (key == name) return held;
    }
  } else if (Value bound = method(heap, value, name); !bound.is(Kind::kNone)) {
    return bound;
  }
  found = false;
  return {};
}

// What Python makes of start and stop for a sequence of `length`, and how many items there are.
struct Bounds {
  int64_t start, stop, step, count;
};
Bounds bounds_of(const Value& start, const Value& stop, const Value& step, int64_t length) {
  const auto is_none = [](const Value& value) { return value.is(Kind::kNone); };
  Bounds b{};
  // A step beyond the length is as good as any longer one.
  b.step = is_none(step) ? 1 : std::clamp(step.as_integer(), -length - 1, length + 1);
  if (b.step == 0) throw Fault("the step of a slice is zero");
  const int64_t low = b.step < 0 ? -1 : 0, high = b.step < 0 ? length - 1 : length;
  const auto clamped = [&](int64_t index) {
    return std::clamp(index < 0 ? index + length : index, low, high);
  };
  b.start = is_none(start) ? (b.step < 0 ? high : low) : clamped(start.as_integer());
  b.stop = is_none(stop) ? (b.step < 0 ? low : high) : clamped(stop.as_integer());
  const int64_t distance = b.step < 0 ? b.start - b.stop : b.stop - b.start;
  const int64_t stride = b.step < 0 ? -b.step : b.step;
  b.count = distance > 0 ? (distance - 1) / stride + 1 : 0;
  return b;
}

Value text_slice(Heap& heap, const Value& value, const Bounds& b) {
  const Text& text = value.text();
  const std::string_view bytes = text.bytes;
  heap.pass(bytes.size());
  if (b.step == 1) {
    const size_t begin = text.ascii() ? static_cast<size_t>(b.start) : byte_of(bytes, b.start);
    const std::string_view rest = bytes.substr(begin);
    return heap.part(value, rest.substr(0, text.ascii() ? static_cast<size_t>(b.count)
                                                        : byte_of(rest, b.count)));
  }
  std::vector<size_t> begins;
  for (size_t i = 0; i < bytes.size(); i += byte_of(bytes.substr(i), 1)) begins.push_back(i);
  begins.push_back(bytes.size());
  TextBuilder out;
  for (int64_t i = 0; i < b.count; ++i) {
    const auto at = static_cast<size_t>(b.start + i * b.step);
    out.add(text, bytes.substr(begins[at], begins[at + 1] - begins[at]));
  }
  heap.check(out.held());
  return heap.text(std::move(out));
}

}  // namespace

Value attribute(Heap& heap, const Value& value, std::string_view name) {
  bool found = false;
  Value own = own_attribute(heap, value, name, found);
  if (found) return own;
  if (value.is(Kind::kDict)) {
    for (const auto& [key, held] : value.dict().entries) {
      heap.step();
      if (key.is(Kind::kString) && key.bytes() == name) return held;
    }
  }
  return missing(heap, value, fmt::format("attribute \"{}\"", printable(name, 40)));
}

Value item(Heap& heap, const Value& value, const Value& index) {
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  const bool indexed = value.is(Kind::kString) || (value.is(Kind::kSequence) &&
                                                   value.sequence().type <= Sequence::Type::kRange);
  if (indexed && index.is_integral()) {
    const int64_t count = length(value);
    const int64_t at = index.as_integer() < 0 ? index.as_integer() + count : index.as_integer();
    if (at >= 0 && at < count) {
      if (value.is(Kind::kSequence)) return value.sequence().items[static_cast<size_t>(at)];
      const Value step;
      return slice(heap, value, Value::integer(at), Value::integer(at + 1), step);
    }
    return missing(heap, value, fmt::format("element {}", index.as_integer()));
  }
  if (value.is(Kind::kDict)) {
    if (const Value* held = find(heap, value.dict(), index)) return *held;
  }
  if (index.is(Kind::kString)) {
    bool found = false;
    Value own = own_attribute(heap, value, index.bytes(), found);
    if (found) return own;
    return missing(heap, value, fmt::format("attribute \"{}\"", printable(index.bytes(), 40)));
  }
  return missing(heap, value, "such element");
}

Value slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
            const Value& step) {
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  const auto is_bound = [](const Value& bound) {
    return bound.is(Kind::kNone) || bound.is_integral();
  };
  const bool sliced = value.is(Kind::kString) || (value.is(Kind::kSequence) &&
                                                  value.sequence().type <= Sequence::Type::kRange);
  if (!sliced) throw Fault(fmt::format("{} cannot be sliced", type_name(value)));
  if (!is_bound(start) || !is_bound(stop) || !is_bound(step)) {
    throw Fault("the bounds of a slice are integers or none");
  }
  const Bounds b = bounds_of(start, stop, step, length(value));
  if (value.is(Kind::kString)) return text_slice(heap, value, b);
  const Sequence& sequence = value.sequence();
  if (sequence.type == Sequence::Type::kRange) {
    return heap.range(sequence.start + b.start * sequence.step,
                      sequence.start + b.stop * sequence.step, b.step * sequence.step);
  }
  std::vector<Value> items;
  heap.step(b.count);
  for (int64_t i = 0; i < b.count; ++i) {
    items.push_back(sequence.items[static_cast<size_t>(b.start + i * b.step)]);
  }
  Value part = heap.sequence(sequence.type, std::move(items));
  static_cast<Sequence&>(*part.object()).origin = sequence.origin;
  return part;
}

}  // namespace tenon::jinja
