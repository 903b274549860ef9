// SPDX-License-Identifier: Apache-2.0
// What containers hold: their length, their items, and the values of their keys.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "text/jinja/operators.h"
#include "text/jinja/text_functions.h"

namespace tenon::jinja {

int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined: return 0;
    case Kind::kString: return value.text().length;
    case Kind::kDict: return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kLoop: return static_cast<int64_t>(value.loop().items.size());
    case Kind::kSequence:
      if (value.sequence().type != Sequence::Type::kGenerator) {
        return static_cast<int64_t>(value.sequence().items.size());
      }
      break;
    default: break;
  }
  throw Fault(fmt::format("{} has no length", type_name(value)));
}

Value items_of(Heap& heap, const Value& value, std::string* fault) {
  std::vector<Value> items;
  if (value.is(Kind::kSequence)) {
    const Sequence& sequence = value.sequence();
    if (sequence.type != Sequence::Type::kGenerator) return value;
    if (sequence.use == Sequence::Use::kPartly) {
      throw Fault("a generator is used again after its first items were taken: use |list before");
    }
    if (std::exchange(sequence.use, Sequence::Use::kDone) == Sequence::Use::kFresh) {
      if (fault) *fault = sequence.fault;
      if (!fault && !sequence.fault.empty()) throw Fault(sequence.fault);
      return value;
    }
  } else if (value.is(Kind::kDict)) {
    for (const auto& entry : value.dict().entries) items.push_back(entry.first);
  } else if (value.is(Kind::kString)) {
    heap.step(value.text().length);
    std::string_view rest = value.bytes();
    while (!rest.empty()) {
      const size_t bytes = byte_of(rest, 1);
      items.push_back(heap.part(value, rest.substr(0, bytes)));
      rest.remove_prefix(bytes);
    }
  } else if (!value.is(Kind::kUndefined)) {
    throw Fault(fmt::format("{} cannot be iterated over", type_name(value)));
  }
  return heap.list(std::move(items));
}

const Value* find(Heap& heap, const Dict& dict, const Value& key) {
  const auto found = std::find_if(dict.entries.begin(), dict.entries.end(),
                                  [&](const auto& entry) { return equal(heap, entry.first, key); });
  return found == dict.entries.end() ? nullptr : &found->second;
}

Value dict_of_fields(Heap& heap, Dict::Entries entries) {
  const auto origin_of = [](const Value& value) -> Origin {
    if (value.is(Kind::kString)) return value.text().origins.first();
    if (value.is(Kind::kDict)) return value.dict().origin;
    return value.is(Kind::kSequence) ? value.sequence().origin : Origin();
  };
  Origin common;
  bool is_common = true, is_message = false;
  for (const auto& [key, value] : entries) {
    const Origin origin = origin_of(value);
    if (origin.kind != Origin::Kind::kMessage && origin.kind != Origin::Kind::kRole) continue;
    is_common = is_common && (common == Origin() || common.number == origin.number);
    common = {.kind = Origin::Kind::kMessage, .number = origin.number};
    is_message = is_message ||
                 (key.is(Kind::kString) && (key.bytes() == "role" || key.bytes() == "content"));
  }
  Value made = heap.dict(std::move(entries));
  if (is_common && common != Origin()) {
    auto& dict = static_cast<Dict&>(*made.object());
    dict.origin = common;
    dict.is_message = is_message;
  }
  return made;
}

void check_key(const Value& key) {
  const auto is_list_like = [&](Sequence::Type type) {
    return key.is(Kind::kSequence) && key.sequence().type == type;
  };
  if (is_list_like(Sequence::Type::kTuple)) {
    for (const Value& part : key.sequence().items) check_key(part);
  } else if (key.is(Kind::kDict) || is_list_like(Sequence::Type::kList)) {
    throw Fault(fmt::format("{} cannot be a key", type_name(key)));
  }
}

void assign(Heap& heap, Dict::Entries& entries, const Value& key, const Value& value) {
  check_key(key);
  for (auto& entry : entries) {
    if (!equal(heap, entry.first, key)) continue;
    entry.second = value;
    return;
  }
  entries.emplace_back(key, value);
}

}  // namespace tenon::jinja
