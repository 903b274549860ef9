// SPDX-License-Identifier: Apache-2.0
// Records of JSON: a value a line, the values of one array, or values one behind the other.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "text/data/byte_source.h"
#include "text/data/record_reader.h"

namespace tenon {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr size_t kBeginBytes = 400;  // enough for the 80 that a message shows, escapes and all

// Reads "<number>:" off the front of `text`.
std::optional<int64_t> leading_number(std::string_view& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end == text.data() + text.size() || *end != ':') return {};
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return number;
}

// A message of the parser, which saw a part of the file and called its first line 1.
std::string moved(std::string_view message, const std::string& file, int64_t line, int64_t column) {
  if (!message.starts_with(file + ":")) return std::string(message);
  std::string_view rest = message.substr(file.size() + 1);
  const std::optional<int64_t> l = leading_number(rest);
  const std::optional<int64_t> c = l ? leading_number(rest) : std::nullopt;
  if (!c) return fmt::format("{}:{}:{}", file, line, rest);
  return fmt::format("{}:{}:{}:{}", file, line + *l - 1, *l == 1 ? column + *c - 1 : *c, rest);
}

// Lines of a .jsonl; blank ones are passed over.
class LineReader : public RecordReader {
 public:
  LineReader(const std::filesystem::path& path, ByteRange range)
      : path_(path), file_(shown(path)), end_(range.end), window_(at(path, range)) {
    if (range.begin == 0) return;
    ranged_ = true;
    begin_ = range.begin - 1;  // a line begins behind a newline: this one may be it
    take_line();
  }

  bool next(Record& record) override {
    for (;;) {
      const int64_t place = begin_ + window_.offset();
      const bool front = !ranged_ && line_ == 0 && end_ > 0;  // a byte order mark may lie before it
      ++line_;
      if ((place >= end_ && !front) || window_.peek() < 0) return false;
      const std::string_view line = take_line();
      if (line.find_first_not_of(kSpace) == line.npos) continue;
      record.begin = line.substr(0, kBeginBytes);
      record.place =
          ranged_ ? fmt::format("{}: byte {}", file_, place) : fmt::format("{}:{}", file_, line_);
      record.fault.clear();
      parse_record(line, file_, line_, 1, record);
      // Lines are counted from the file's front only where a message needs it.
      if (ranged_ && !record.fault.empty()) {
        parse_record(line, file_, line_at(place), 1, record);
      }
      return true;
    }
  }

 private:
  static ByteWindow at(const std::filesystem::path& path, ByteRange range) {
    if (range.begin == 0) return open_text(path);
    return ByteWindow(open_bytes(path, range.begin - 1));
  }

  // The next line without its end, good until the window moves on.
  std::string_view take_line() {
    size_t newline = window_.view().find('\n'), searched = 0;
    while (newline == std::string_view::npos) {
      searched = window_.view().size();
      if (searched > kRecordBytes) {
        fail_input("{}: byte {}: expected a line of at most {} bytes, got more", file_,
                   begin_ + window_.offset(), kRecordBytes);
      }
      if (!window_.more()) break;
      newline = window_.view().find('\n', searched);
    }
    std::string_view line = window_.view().substr(0, newline);
    window_.drop(std::min(window_.view().size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  int64_t line_at(int64_t byte) const {
    const auto file = MappedFile::open(path_);
    const std::string_view before = file->text().substr(0, static_cast<size_t>(byte));
    return 1 + std::count(before.begin(), before.end(), '\n');
  }

  std::filesystem::path path_;
  std::string file_;
  int64_t begin_ = 0, end_;  // the window's first byte in the file; records begin before `end_`
  bool ranged_ = false;
  ByteWindow window_;
  int64_t line_ = 0;
};

// The values of an array, or values with white space between them.
class ValueReader : public RecordReader {
 public:
  explicit ValueReader(const std::filesystem::path& path)
      : file_(shown(path)), window_(open_text(path)) {
    skip_space();
    array_ = window_.peek() == '[';
    if (array_) drop(1);
    if (!array_ && window_.peek() != '{') {
      reject("expected '[' (an array of records) or '{' (records one behind the other)");
    }
  }

  bool next(Record& record) override {
    if (!to_next_value()) return false;
    const size_t length = value_length();
    const std::string_view text = window_.view().substr(0, length);
    record.begin = text.substr(0, kBeginBytes);
    record.place = fmt::format("{}:{}:{}", file_, line_, column_);
    record.fault.clear();
    parse_record(text, file_, line_, column_, record);
    drop(length);
    return true;
  }

 private:
  // Moves to the next value's first byte; false behind the last.
  bool to_next_value() {
    skip_space();
    if (!array_) return window_.peek() >= 0;
    if (closed_) return at_end();
    if (window_.peek() == ']') {
      drop(1);
      closed_ = true;
      skip_space();
      return at_end();
    }
    if (!first_) {
      if (window_.peek() != ',') reject("expected ',' or ']'");
      drop(1);
      skip_space();
    }
    first_ = false;
    const int byte = window_.peek();
    if (byte < 0 || byte == ',' || byte == ']') reject("expected a value");
    return true;
  }

  bool at_end() {
    if (window_.peek() >= 0) reject("expected the end of the text");
    return false;
  }

  // The bytes from here to the end of the value: brackets closed, or up to what ends a word. Wrong
  // values are the parser's to refuse.
  size_t value_length() {
    size_t at = 0;
    int64_t depth = 0;
    bool quoted = false, escaped = false;
    for (;; ++at) {
      if (at == window_.view().size()) {
        if (at > kRecordBytes) {
          fail_input("{}:{}:{}: expected a record of at most {} bytes, got more", file_, line_,
                     column_, kRecordBytes);
        }
        if (!window_.more()) return at;
      }
      const char byte = window_.view()[at];
      if (quoted) {
        quoted = escaped || byte != '"';
        escaped = !escaped && byte == '\\';
      } else if (byte == '"') {
        quoted = true;
      } else if (byte == '{' || byte == '[') {
        ++depth;
      } else if (byte == '}' || byte == ']') {
        if (--depth < 0) return at;
        if (depth == 0) return at + 1;
      } else if (depth == 0 && (byte == ',' || kSpace.find(byte) != kSpace.npos)) {
        return at;
      }
    }
  }

  void skip_space() {
    while (window_.peek() >= 0 && kSpace.find(static_cast<char>(window_.peek())) != kSpace.npos) {
      drop(1);
    }
  }

  void drop(size_t bytes) {
    const std::string_view text = window_.view().substr(0, bytes);
    const size_t newline = text.rfind('\n');
    line_ += std::count(text.begin(), text.end(), '\n');
    column_ = newline == text.npos ? column_ + static_cast<int64_t>(bytes)
                                   : static_cast<int64_t>(bytes - newline);
    window_.drop(bytes);
  }

  [[noreturn]] void reject(const char* expected) {
    window_.reach(16);
    const std::string_view text = window_.view().substr(0, 16);
    fail_input("{}:{}:{}: invalid JSON: {}, got {}", file_, line_, column_, expected,
               text.empty() ? "the end of the text" : fmt::format("\"{}\"", printable(text)));
  }

  std::string file_;
  ByteWindow window_;
  int64_t line_ = 1, column_ = 1;
  bool array_ = false, closed_ = false, first_ = true;
};

}  // namespace

void parse_record(std::string_view text, const std::string& file, int64_t line, int64_t column,
                  Record& record) {
  try {
    record.fault.clear();
    record.value = parse_ordered_json(text, file);
  } catch (const Error& error) {
    if (error.code() != Exit::kInput) throw;
    record.fault = moved(error.what(), file, line, column);
  }
}

std::unique_ptr<RecordReader> read_lines(const std::filesystem::path& path, ByteRange range) {
  return std::make_unique<LineReader>(path, range);
}

std::unique_ptr<RecordReader> read_values(const std::filesystem::path& path) {
  return std::make_unique<ValueReader>(path);
}

}  // namespace tenon
