// SPDX-License-Identifier: Apache-2.0
// Records of CSV as RFC 4180 has it: a header row, fields between commas, quotes around fields that
// hold commas, quotes (doubled) or line ends; lines end with CRLF, LF or CR. Blank lines are passed
// over. Every field is a string.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "text/data/byte_source.h"
#include "text/data/record_fields.h"
#include "text/data/record_reader.h"
#include "text/utf8.h"

namespace tenon {
namespace {

constexpr size_t kColumns = 10'000;

class CsvReader : public RecordReader {
 public:
  explicit CsvReader(const std::filesystem::path& path)
      : file_(shown(path)), window_(open_text(path)) {
    if (!read_row()) fail_input("{}: expected a row of column names, got none", file_);
    if (!fault_.empty()) fail_input("{}", fault_);
    names_ = std::move(fields_);
    std::set<std::string_view> seen;
    for (const std::string& name : names_) {
      if (valid_utf8_prefix(name) != name.size()) {
        fail_input("{}:1: expected column names in UTF-8, got \"{}\"", file_, printable(name));
      }
      if (!seen.insert(name).second) {
        fail_input("{}:1: expected each column name once, got \"{}\" twice", file_,
                   printable(name));
      }
    }
  }

  bool next(Record& record) override {
    if (!read_row()) return false;
    record.place = fmt::format("{}:{}", file_, row_line_);
    record.begin = begin_;
    record.fault = fault_;
    if (record.fault.empty() && fields_.size() != names_.size()) {
      record.fault = fmt::format("{}: expected {} columns as the header has, got {}", record.place,
                                 names_.size(), fields_.size());
    }
    if (!record.fault.empty()) return true;
    record.value = OrderedJson::object();
    for (size_t i = 0; i < fields_.size(); ++i)
      add_member(record.value, names_[i], std::move(fields_[i]));
    return true;
  }

 private:
  // The next row that is not blank, into fields_; false at the end. A row that breaks the rules
  // leaves fault_ and is read to the end of its line.
  bool read_row() {
    do {
      fields_.clear();
      begin_.clear();
      fault_.clear();
      row_line_ = line_;
      row_bytes_ = 0;
      blank_ = true;
      if (window_.peek() < 0) return false;
      while (read_field()) {
      }
    } while (fields_.size() == 1 && fields_[0].empty() && blank_);
    return true;
  }

  // One field and what ends it; false when that is the end of the row.
  bool read_field() {
    if (fields_.size() == kColumns) {
      fail_input("{}:{}: expected at most {} columns, got more", file_, row_line_, kColumns);
    }
    std::string& field = fields_.emplace_back();
    if (window_.peek() == '"') read_quoted(field);
    for (;;) {
      const int byte = take();
      if (byte == ',' || byte < 0) return byte == ',';
      if (byte == '\n') return end_line();
      if (byte == '\r') {
        if (window_.peek() == '\n') take();
        return end_line();
      }
      if (quoted_end_) {
        fault("expected ',' or the end of the line behind a closing quote");
      } else if (byte == '"') {
        fault("expected quotes around the whole field (and doubled within it), got one inside");
      }
      field += static_cast<char>(byte);
    }
  }

  void read_quoted(std::string& field) {
    const int64_t line = line_, column = column_;
    take();
    for (;;) {
      const int byte = take();
      if (byte < 0) {
        fail_input("{}:{}:{}: expected a closing quote, got the end of the file", file_, line,
                   column);
      }
      if (byte == '"') {
        if (window_.peek() != '"') break;
        take();
      }
      field += static_cast<char>(byte);
      if (byte == '\n') new_line();
    }
    quoted_end_ = true;
  }

  void fault(const char* what) {
    if (fault_.empty()) fault_ = fmt::format("{}:{}:{}: {}", file_, line_, column_ - 1, what);
  }

  bool end_line() {
    new_line();
    return false;
  }
  void new_line() {
    ++line_;
    column_ = 1;
  }

  int take() {
    const int byte = window_.take();
    quoted_end_ = quoted_end_ && byte != ',' && byte != '\n' && byte != '\r';
    if (byte < 0) return byte;
    constexpr size_t kBeginBytes = 400;
    blank_ = blank_ && (byte == '\r' || byte == '\n');
    if (begin_.size() < kBeginBytes) begin_ += static_cast<char>(byte);
    ++column_;
    if (++row_bytes_ > kRecordBytes) {
      fail_input("{}:{}: expected a row of at most {} bytes, got more (is a quote left open?)",
                 file_, row_line_, kRecordBytes);
    }
    return byte;
  }

  std::string file_;
  ByteWindow window_;
  std::vector<std::string> names_, fields_;
  std::string begin_, fault_;  // of the row: its first bytes, and what is wrong with it
  int64_t line_ = 1, column_ = 1, row_line_ = 1;
  size_t row_bytes_ = 0;
  bool blank_ = true;        // the row holds nothing but its end
  bool quoted_end_ = false;  // the current field's closing quote was read
};

}  // namespace

std::unique_ptr<RecordReader> read_csv(const std::filesystem::path& path) {
  return std::make_unique<CsvReader>(path);
}

}  // namespace tenon
