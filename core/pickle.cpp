// SPDX-License-Identifier: Apache-2.0
#include "core/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace tenon {
namespace {

// A tensor takes about 16 values and 35 steps.
constexpr size_t kMaxValues = 1'000'000, kMaxSteps = 4'000'000;
constexpr size_t kMaxBytes = size_t{1} << 30;  // the place of a value is a uint32_t
constexpr uint32_t kUnset = UINT32_MAX;

// The opcodes that are not read, by name: those of newer protocols and of the text protocol, and
// those that make objects of classes.
constexpr std::pair<char, const char*> kRefused[] = {
    {'\x81', "NEWOBJ"},
    {'\x82', "EXT1"},
    {'\x83', "EXT2"},
    {'\x84', "EXT4"},
    {'\x8b', "LONG4"},
    {'\x8d', "BINUNICODE8"},
    {'\x8e', "BINBYTES8"},
    {'\x8f', "EMPTY_SET"},
    {'\x90', "ADDITEMS"},
    {'\x91', "FROZENSET"},
    {'\x92', "NEWOBJ_EX"},
    {'\x93', "STACK_GLOBAL"},
    {'\x94', "MEMOIZE"},
    {'\x95', "FRAME"},
    {'\x96', "BYTEARRAY8"},
    {'\x97', "NEXT_BUFFER"},
    {'\x98', "READONLY_BUFFER"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'L', "LONG"},
    {'P', "PERSID"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'d', "DICT"},
    {'g', "GET"},
    {'i', "INST"},
    {'l', "LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
};

std::string opcode_text(char opcode) {
  const auto known = std::find_if(std::begin(kRefused), std::end(kRefused),
                                  [&](const auto& row) { return row.first == opcode; });
  return known != std::end(kRefused) ? std::string(known->second)
                                     : fmt::format("0x{:02x}", static_cast<unsigned char>(opcode));
}

}  // namespace

const char* name_of(PickleKind kind) {
  switch (kind) {
    case PickleKind::kNone: return "None";
    case PickleKind::kBool: return "a boolean";
    case PickleKind::kInteger: return "an integer";
    case PickleKind::kFloat: return "a number";
    case PickleKind::kText: return "a string";
    case PickleKind::kTuple: return "a tuple";
    case PickleKind::kList: return "a list";
    case PickleKind::kDict: return "a dict";
    case PickleKind::kGlobal: return "a global";
    case PickleKind::kCall: return "a call";
    case PickleKind::kPersistent: return "a storage";
  }
  return "?";
}

// Python's stack machine. A mark is kept as the height of the stack where it was set; nothing below
// the newest mark is taken off before the mark is.
class PickleMachine {
 public:
  PickleMachine(Pickle& pickle, std::span<const std::byte> bytes,
                std::span<const std::string_view> allowed, const std::string& where, int64_t base)
      : values_(pickle.values_),
        text_(reinterpret_cast<const char*>(bytes.data()), bytes.size()),
        allowed_(allowed),
        where_(where),
        base_(base) {}

  uint32_t run() {
    if (text_.size() > kMaxBytes) {
      fail_input("{}: expected a pickle of at most {} bytes, got {}", where_, kMaxBytes,
                 text_.size());
    }
    for (const bool value : {false, true}) {
      singles_[value ? 2 : 1] = make({.kind = PickleKind::kBool, .integer = value});
    }
    singles_[0] = make({});
    singles_[3] = make({.kind = PickleKind::kTuple});
    for (size_t step = 0; step < kMaxSteps; ++step) {
      begin_ = at_;
      const char opcode = take(1)[0];
      if (opcode == '.') return finish();
      execute(opcode);
    }
    reject("at most {} opcodes, got more", kMaxSteps);
  }

 private:
  template <class... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> expected, Args&&... args) const {
    fail_input("{}@{}: expected {}", where_, base_ + static_cast<int64_t>(begin_),
               fmt::format(expected, std::forward<Args>(args)...));
  }

  uint32_t finish() {
    const uint32_t root = pop();
    if (!stack_.empty() || at_ != text_.size()) {
      reject("the end of the pickle with one value, got {} more and {} bytes", stack_.size(),
             text_.size() - at_);
    }
    return root;
  }

  std::string_view take(size_t bytes) {
    if (bytes > text_.size() - at_) {
      reject("{} more bytes in the pickle, got {}", bytes, text_.size() - at_);
    }
    at_ += bytes;
    return text_.substr(at_ - bytes, bytes);
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  // Two's complement, little-endian, as short as possible.
  int64_t long_integer() {
    const size_t bytes = number<uint8_t>();
    if (bytes > 8) reject("an integer of at most 8 bytes, got {}", bytes);
    const std::string_view digits = take(bytes);
    uint64_t value = bytes > 0 && (digits.back() & 0x80) != 0 ? UINT64_MAX : 0;
    std::memcpy(&value, digits.data(), bytes);
    return static_cast<int64_t>(value);
  }

  double big_endian_double() {
    return std::bit_cast<double>(__builtin_bswap64(number<uint64_t>()));
  }

  std::string_view line() {
    constexpr size_t kMaxLine = 200;
    const size_t length = text_.substr(at_, kMaxLine).find('\n');
    if (length == text_.npos) reject("a line of at most {} bytes, got a longer one", kMaxLine);
    return take(length + 1).substr(0, length);
  }

  uint32_t make(PickleValue value) {
    if (values_.size() >= kMaxValues) reject("at most {} values, got more", kMaxValues);
    value.byte = static_cast<uint32_t>(begin_);
    values_.push_back(std::move(value));
    return static_cast<uint32_t>(values_.size() - 1);
  }

  void push(uint32_t place) {
    if (stack_.size() >= kMaxValues) reject("a stack of at most {} values, got more", kMaxValues);
    stack_.push_back(place);
  }
  void push(PickleValue value) { push(make(std::move(value))); }

  uint32_t pop() {
    top();
    const uint32_t place = stack_.back();
    stack_.pop_back();
    return place;
  }

  PickleValue& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back()))
      reject("a value on the stack, got none");
    return values_[stack_.back()];
  }

  std::vector<uint32_t> pop_many(size_t count) {
    if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count) {
      reject("{} values on the stack, got fewer", count);
    }
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<uint32_t> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    return items;
  }

  std::vector<uint32_t> pop_to_mark() {
    if (marks_.empty()) reject("a mark on the stack, got none");
    std::vector<uint32_t> items = pop_many(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  void mark() {
    if (marks_.size() >= kMaxValues) reject("at most {} marks, got more", kMaxValues);
    marks_.push_back(stack_.size());
  }

  void append(PickleKind kind, const std::vector<uint32_t>& items) {
    PickleValue& container = top();
    if (container.kind != kind) {
      reject("{} to put values in, got {}", name_of(kind), name_of(container.kind));
    }
    if (kind == PickleKind::kDict && items.size() % 2 != 0) reject("a value for each key");
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  void global() {
    const std::string_view module = line(), name = line();
    // The pickle has a line's end between them; the names here have a point.
    const auto matches = [&](std::string_view known) {
      return known.size() == module.size() + 1 + name.size() && known.starts_with(module) &&
             known.ends_with(name) && known[module.size()] == '.';
    };
    if (matches(kOrderedDict)) return push({.kind = PickleKind::kGlobal, .text = kOrderedDict});
    const auto known = std::find_if(allowed_.begin(), allowed_.end(), matches);
    if (known == allowed_.end()) {
      reject(
          "tensors and plain values, got the global \"{}.{}\" (nothing of a checkpoint is "
          "executed)",
          printable(module), printable(name));
    }
    push({.kind = PickleKind::kGlobal, .text = *known});
  }

  void call() {
    const uint32_t arguments = pop(), callable = pop();
    if (values_[callable].kind != PickleKind::kGlobal ||
        values_[arguments].kind != PickleKind::kTuple) {
      reject("a global and a tuple of arguments, got {} and {}", name_of(values_[callable].kind),
             name_of(values_[arguments].kind));
    }
    const std::string_view name = values_[callable].text;
    if (name != kOrderedDict) {
      return push({.kind = PickleKind::kCall, .text = name, .items = values_[arguments].items});
    }
    if (!values_[arguments].items.empty()) reject("an OrderedDict without arguments, got some");
    push({.kind = PickleKind::kDict});
  }

  // Attributes of a dict, such as the `_metadata` of a state dict, say nothing about tensors.
  void build() {
    pop();
    if (top().kind != PickleKind::kDict) {
      reject("attributes of a dict, got some of {}", name_of(top().kind));
    }
  }

  void remember(uint32_t number) {
    top();
    if (number >= kMaxSteps) reject("a memo below {}, got {}", kMaxSteps, number);
    if (number >= memo_.size()) memo_.resize(number + size_t{1}, kUnset);
    memo_[number] = stack_.back();
  }

  void recall(uint32_t number) {
    if (number >= memo_.size() || memo_[number] == kUnset) {
      reject("a memo that was set, got {}", number);
    }
    push(memo_[number]);
  }

  void execute(char opcode) {
    using enum PickleKind;
    switch (opcode) {
      case '\x80': {  // PROTO
        const auto protocol = number<uint8_t>();
        if (protocol > 5) reject("a pickle of protocol 2, got {}", protocol);
        return;
      }
      case 'N': return push(singles_[0]);
      case '\x89': return push(singles_[1]);
      case '\x88': return push(singles_[2]);
      case ')': return push(singles_[3]);
      case 'K': return push({.kind = kInteger, .integer = number<uint8_t>()});
      case 'M': return push({.kind = kInteger, .integer = number<uint16_t>()});
      case 'J': return push({.kind = kInteger, .integer = number<int32_t>()});
      case '\x8a': return push({.kind = kInteger, .integer = long_integer()});
      case 'G': return push({.kind = kFloat, .number = big_endian_double()});
      case 'X': return push({.kind = kText, .text = take(number<uint32_t>())});
      case '\x8c': return push({.kind = kText, .text = take(number<uint8_t>())});
      case '}': return push({.kind = kDict});
      case ']': return push({.kind = kList});
      case '(': return mark();
      case 't': return push({.kind = kTuple, .items = pop_to_mark()});
      case '\x85': return push({.kind = kTuple, .items = pop_many(1)});
      case '\x86': return push({.kind = kTuple, .items = pop_many(2)});
      case '\x87': return push({.kind = kTuple, .items = pop_many(3)});
      case 's': return append(kDict, pop_many(2));
      case 'u': return append(kDict, pop_to_mark());
      case 'a': return append(kList, pop_many(1));
      case 'e': return append(kList, pop_to_mark());
      case 'q': return remember(number<uint8_t>());
      case 'r': return remember(number<uint32_t>());
      case 'h': return recall(number<uint8_t>());
      case 'j': return recall(number<uint32_t>());
      case 'c': return global();
      case 'R': return call();
      case 'b': return build();
      case 'Q': return push({.kind = kPersistent, .items = pop_many(1)});
      default:
        reject("an opcode of a pickle as torch.save writes it (protocol 2), got {}",
               opcode_text(opcode));
    }
  }

  static constexpr std::string_view kOrderedDict = "collections.OrderedDict";

  std::deque<PickleValue>& values_;
  std::string_view text_;
  std::span<const std::string_view> allowed_;
  const std::string& where_;
  int64_t base_;
  size_t at_ = 0, begin_ = 0;          // the next byte; where the opcode in hand began
  std::array<uint32_t, 4> singles_{};  // None, False, True, (): many opcodes, one value each
  std::vector<uint32_t> stack_, memo_;
  std::vector<size_t> marks_;
};

Pickle::Pickle(std::span<const std::byte> bytes, std::span<const std::string_view> allowed,
               const std::string& where, int64_t base) {
  root_ = PickleMachine(*this, bytes, allowed, where, base).run();
}

}  // namespace tenon
