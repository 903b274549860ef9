// SPDX-License-Identifier: Apache-2.0
// Python's pickle format (protocol 2, as torch.save writes it), read as data: nothing is imported or
// called. What Python would call stands in the result as a kCall with the callable's name and its
// arguments, for a reader that knows a few of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

enum class PickleKind : uint8_t {
  kNone,
  kBool,        // integer
  kInteger,     // integer
  kFloat,       // number
  kText,        // text
  kTuple,       // items
  kList,        // items
  kDict,        // items: key, value, key, value, ...
  kGlobal,      // text: "module.name"
  kCall,        // text: the callable's "module.name"; items: its arguments
  kPersistent,  // items: the one value that says what is meant
};

// The kind as it stands after "got".
const char* name_of(PickleKind kind);

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  uint32_t byte = 0;  // of the pickle, where the value was made
  union {
    int64_t integer = 0;
    double number;
  };
  std::string_view text;        // in the pickle
  std::vector<uint32_t> items;  // places in the Pickle that holds them
};

// A pickle as it was read. A value's items are not made after it, except those of lists and dicts,
// which may so hold themselves.
class Pickle {
 public:
  // Reads `bytes`, which must outlive the Pickle. `where` begins the messages; `base` is added to
  // the bytes that they name. Throws Error(kInput) for opcodes that torch.save does not write, for
  // globals not in `allowed` and not "collections.OrderedDict" (which becomes a dict), and for more
  // than a million values.
  Pickle(std::span<const std::byte> bytes, std::span<const std::string_view> allowed,
         const std::string& where, int64_t base);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& operator[](uint32_t place) const { return values_[place]; }

 private:
  friend class PickleMachine;
  std::deque<PickleValue> values_;
  uint32_t root_ = 0;
};

}  // namespace tenon
