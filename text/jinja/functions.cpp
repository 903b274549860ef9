// SPDX-License-Identifier: Apache-2.0
// The functions that templates see without being given them.
#include <fmt/format.h>

#include <functional>

#include "core/error.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/parameters.h"

namespace tenon::jinja {
namespace {

struct Function : Callable {
  using Body = std::function<Value(Arguments&)>;
  Function(Heap& heap, const std::string& function_name, Body function)
      : Callable(&heap, function_name, 0), body(std::move(function)) {}
  Value call(Arguments& arguments) override { return body(arguments); }
  const Body body;
};

// As the sandbox of Jinja2 has it.
constexpr int64_t kMaxRange = 100'000;

Value range(Heap& heap, Arguments& arguments) {
  constexpr int64_t kMaxBound = int64_t{1} << 40;  // far from overflows
  if (arguments.positional.empty() || arguments.positional.size() > 3 || !arguments.named.empty()) {
    throw Fault("range: expected one to three integers");
  }
  int64_t bounds[3] = {0, 0, 1};
  const size_t count = arguments.positional.size();
  for (size_t i = 0; i < count; ++i) {
    bounds[count == 1 ? 1 : i] = to_index(arguments.positional[i], "range");
  }
  const auto [start, stop, step] = bounds;
  if (step == 0) throw Fault("range: the step is zero");
  for (const int64_t bound : bounds) {
    if (bound > kMaxBound || bound < -kMaxBound) throw Fault("range: a bound is too large");
  }
  const int64_t distance = step > 0 ? stop - start : start - stop;
  const int64_t stride = step > 0 ? step : -step;
  if (distance > 0 && (distance - 1) / stride + 1 > kMaxRange) {
    throw Fault(fmt::format("range: more than {} items", kMaxRange));
  }
  return heap.range(start, stop, step);
}

Value raise_exception(Heap& heap, Arguments& arguments) {
  const Parameters given("raise_exception", arguments, {"message"}, 1);
  throw Fault(std::string(to_text(heap, given.at(0)).bytes()));
}

Value strftime_now(Heap& heap, Arguments& arguments, const std::tm& now) {
  constexpr size_t kMaxText = 4096;
  const Parameters given("strftime_now", arguments, {"format"}, 1);
  const std::string format(given.text(0, {}));
  if (format.empty()) return heap.text(std::string());
  std::string text(kMaxText, '\0');
  // A space keeps "nothing was written" apart from "it did not fit".
  const size_t length = std::strftime(text.data(), text.size(), (format + ' ').c_str(), &now);
  if (length == 0) throw Fault(fmt::format("strftime_now: more than {} bytes", kMaxText));
  text.resize(length - 1);
  return heap.text(std::move(text));
}

}  // namespace

Dict::Entries dict_entries(Heap& heap, std::string_view function, const Arguments& arguments) {
  Dict::Entries entries;
  if (arguments.positional.size() > 1) {
    throw Fault(fmt::format("{}: expected at most one argument without a name", function));
  }
  if (!arguments.positional.empty()) {
    const Value& given = arguments.positional[0];
    if (given.is(Kind::kDict)) {
      entries = given.dict().entries;
      heap.step(static_cast<int64_t>(entries.size()));
    } else {
      const Value pairs = items_of(heap, given);
      for (const Value& pair : pairs.sequence().items) {
        const Value parts = items_of(heap, pair);
        if (parts.sequence().items.size() != 2) {
          throw Fault(fmt::format("{}: expected pairs of key and value", function));
        }
        assign(heap, entries, parts.sequence().items[0], parts.sequence().items[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named) assign(heap, entries, heap.text(name), value);
  return entries;
}

Value make_function(Heap& heap, const std::string& name, const std::tm& now) {
  const auto made = [&](Function::Body body) -> Value {
    return {Kind::kCallable, std::make_shared<Function>(heap, name, std::move(body))};
  };
  if (name == "range") return made([&heap](Arguments& given) { return range(heap, given); });
  if (name == "dict") {
    return made([&heap](Arguments& given) {
      return dict_of_fields(heap, dict_entries(heap, "dict", given));
    });
  }
  if (name == "raise_exception") {
    return made([&heap](Arguments& given) { return raise_exception(heap, given); });
  }
  if (name == "strftime_now") {
    return made([&heap, &now](Arguments& given) { return strftime_now(heap, given, now); });
  }
  for (const char* other : {"cycler", "joiner", "lipsum"}) {
    if (name != other) continue;
    return made([name](Arguments&) -> Value {
      throw Fault(fmt::format("the function {}() is not supported", name));
    });
  }
  return {};
}

}  // namespace tenon::jinja
