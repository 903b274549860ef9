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
constexpr int kLookedAt = 100;      // records in which fields that are not read are looked for

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
  const std::vector<std::string>& unread_fields() const override { return no_fields_; }

 private:
  std::filesystem::path path_;
  std::string description_ = "text", no_fault_;
  std::vector<std::string> no_fields_;
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

void check_options(const DocumentOptions& options) {
  if (!options.columns.empty() && options.columns.size() != 2) {
    fail_input("--columns: expected two names, what is asked and what is answered, got {}",
               options.columns.size());
  }
  if (!options.system.empty() && options.chat_template == nullptr) {
    fail_input("--system: expected a chat template that writes it (--chat-template), got none");
  }
}

class ShapedReader : public DocumentReader {
 public:
  ShapedReader(const std::filesystem::path& path, const DocumentOptions& options, ByteRange range)
      : path_(path), options_(options), records_(open_records(path, range)) {
    const DataFileName name = data_file_name(path);
    kind_ = name.kind + name.compression;
    check_options(options);
    if (range.begin > 0) find_shape();
  }

  bool next(Document& document) override {
    Record record;
    while (records_->next(record)) {
      if (accept(record, document)) return true;
    }
    // Bad records are passed over, but not a whole file of them.
    if (shape_ == nullptr && skipped_ > 0) find_shape();
    return false;
  }
  const std::string& description() const override { return description_; }
  int64_t skipped() const override { return skipped_; }
  const std::string& first_fault() const override { return first_fault_; }
  const std::vector<std::string>& unread_fields() const override { return unread_; }

 private:
  // The shape is that of the file's first record that has one, in whichever part of the file.
  void find_shape() {
    const auto front = open_records(path_, {});
    Record record;
    std::string fault;
    while (shape_ == nullptr && front->next(record)) {
      const std::string found = set_shape(record);
      if (fault.empty()) fault = found;
      if (!options_.skip_bad && !found.empty()) return;  // whoever reads the front says so
    }
    if (shape_ == nullptr && !fault.empty()) {
      fail_input("{}: expected a record that can be read, got none; the first: {}", shown(path_),
                 fault);
    }
  }

  // What is wrong with the record; "" where it has a shape.
  std::string set_shape(const Record& record) {
    if (!record.fault.empty()) return told(record, record.fault);
    try {
      shape_ = DocumentShape::of(record.value, record.place, options_);
    } catch (const Error& error) {
      if (error.code() != Exit::kInput) throw;
      return told(record, error.what());
    }
    if (description_.empty()) description_ = fmt::format("{}, {}", kind_, shape_->description());
    return {};
  }

  static std::string told(const Record& record, const std::string& fault) {
    const std::string begin =
        !record.begin.empty()
            ? record.begin
            : record.value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    return fmt::format("{}; the record begins: {}", fault, printable(begin, kShownBytes));
  }

  std::string write(const Record& record, Document& document) {
    if (shape_ == nullptr || !record.fault.empty() || !shape_->fits(record.value)) {
      if (std::string fault = set_shape(record); !fault.empty()) return fault;
    }
    try {
      shape_->write(record.value, record.place, document);
    } catch (const Error& error) {
      if (error.code() != Exit::kInput) throw;
      return told(record, error.what());
    }
    if (looked_at_ < kLookedAt) {
      ++looked_at_;
      shape_->note_unread(record.value, unread_);
    }
    return {};
  }

  bool accept(const Record& record, Document& document) {
    const std::string fault = write(record, document);
    if (fault.empty()) return true;
    if (!options_.skip_bad) fail_input("{}", fault);
    if (skipped_++ == 0) first_fault_ = fault;
    return false;
  }

  std::filesystem::path path_;
  DocumentOptions options_;
  std::unique_ptr<RecordReader> records_;
  std::unique_ptr<DocumentShape> shape_;
  std::string kind_, description_, first_fault_;
  std::vector<std::string> unread_;
  int looked_at_ = 0;  // records, for fields that are not read
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
