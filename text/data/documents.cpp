// SPDX-License-Identifier: Apache-2.0
#include "text/data/documents.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "text/data/byte_source.h"
#include "text/data/document_shape.h"
#include "text/data/record_reader.h"
#include "text/utf8.h"

namespace tenon {
namespace {

constexpr size_t kShownBytes = 80;  // of a record that is refused

// A .txt: one document.
class TextReader : public DocumentReader {
 public:
  explicit TextReader(const std::filesystem::path& path) : path_(path) {}

  bool next(Document& document) override {
    if (done_) return false;
    done_ = true;
    constexpr size_t kMost = size_t{1} << 30;
    ByteWindow window = open_text(path_);
    if (window.reach(kMost + 1)) {
      fail_input("{}: expected at most {} bytes to hold at a time, got more", shown(path_), kMost);
    }
    document = {.place = shown(path_)};
    document.pieces.push_back({std::string(window.view()), true});
    return true;
  }
  const std::string& description() const override { return description_; }
  int64_t skipped() const override { return 0; }
  const std::string& first_fault() const override { return no_fault_; }

 private:
  std::filesystem::path path_;
  std::string description_ = "text", no_fault_;
  bool done_ = false;
};

std::unique_ptr<RecordReader> open_records(const std::filesystem::path& path, ByteRange range) {
  const std::string kind = data_file_name(path).kind;
  if (kind == ".jsonl") return read_lines(path, range);
  if (kind == ".json") return read_values(path);
  if (kind == ".csv") return read_csv(path);
  if (kind == ".parquet") return read_parquet(path);
  fail_input(
      "{}: expected a .txt, .jsonl, .json, .csv or .parquet file (or one of these as .gz or .zst), "
      "got {}",
      shown(path), kind.empty() ? "no extension" : printable(kind));
}

class ShapedReader : public DocumentReader {
 public:
  ShapedReader(const std::filesystem::path& path, const DocumentOptions& options, ByteRange range)
      : options_(options), records_(open_records(path, range)) {
    const DataFileName name = data_file_name(path);
    kind_ = name.kind + name.compression;
    if (range.begin > 0) find_shape(path);
  }

  bool next(Document& document) override {
    Record record;
    while (records_->next(record)) {
      if (accept(record, document)) return true;
    }
    return false;
  }
  const std::string& description() const override { return description_; }
  int64_t skipped() const override { return skipped_; }
  const std::string& first_fault() const override { return first_fault_; }

 private:
  // The shape is that of the file's first record, in whichever part of it this one reads.
  void find_shape(const std::filesystem::path& path) {
    const auto front = open_records(path, {});
    Record record;
    while (shape_ == nullptr && front->next(record)) {
      if (record.fault.empty()) set_shape(record);
    }
  }

  void set_shape(const Record& record) {
    shape_ = DocumentShape::of(record.value, record.place, options_);
    if (description_.empty()) description_ = fmt::format("{}, {}", kind_, shape_->description());
  }

  bool accept(const Record& record, Document& document) {
    std::string fault = record.fault;
    if (fault.empty()) {
      try {
        if (shape_ == nullptr || !shape_->fits(record.value)) set_shape(record);
        shape_->write(record.value, record.text, record.place, document);
        return true;
      } catch (const Error& error) {
        if (error.code() != Exit::kInput) throw;
        fault = error.what();
      }
    }
    const std::string begin =
        !record.begin.empty() ? record.begin
                              : record.value.dump(-1, ' ', false, Json::error_handler_t::replace);
    fault += fmt::format("; the record begins: {}", printable(begin, kShownBytes));
    // A file whose first record has no known shape is not passed over record by record.
    if (!options_.skip_bad || (record.fault.empty() && shape_ == nullptr)) fail_input("{}", fault);
    if (skipped_++ == 0) first_fault_ = fault;
    return false;
  }

  DocumentOptions options_;
  std::unique_ptr<RecordReader> records_;
  std::unique_ptr<DocumentShape> shape_;
  std::string kind_, description_, first_fault_;
  int64_t skipped_ = 0;
};

}  // namespace

std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path,
                                               const DocumentOptions& options, ByteRange range) {
  if (is_plain_text(path)) return std::make_unique<TextReader>(path);
  return std::make_unique<ShapedReader>(path, options, range);
}

bool is_plain_text(const std::filesystem::path& path) {
  return data_file_name(path).kind == ".txt";
}

bool can_split(const std::filesystem::path& path) {
  const DataFileName name = data_file_name(path);
  return name.kind == ".jsonl" && name.compression.empty();
}

}  // namespace tenon
