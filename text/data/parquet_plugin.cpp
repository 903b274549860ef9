// SPDX-License-Identifier: Apache-2.0
// Parquet by Apache Arrow, row by row: see parquet_plugin.h. Row groups are read in batches of a few
// rows through a buffer, so memory follows the pages and not the file.
#include "text/data/parquet_plugin.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <unordered_set>

#include "text/data/parquet_values.h"

namespace tenon {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kBatchRows = 64;
constexpr int64_t kBufferBytes = int64_t{1} << 18;

void check(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error("invalid Parquet: " + status.message());
}

// Objects have each member once; so do rows.
void check_names(const arrow::FieldVector& fields, const std::string& of) {
  std::unordered_set<std::string> seen;
  for (const auto& field : fields) {
    if (!seen.insert(field->name()).second) {
      throw std::runtime_error("expected each name once in " + of + ", got \"" + field->name() +
                               "\" twice");
    }
    check_names(field->type()->fields(), "\"" + field->name() + "\"");
  }
}

template <class T>
T value_of(arrow::Result<T> result) {
  check(result.status());
  return std::move(result).ValueUnsafe();
}

class Rows : public ParquetRows {
 public:
  explicit Rows(const char* path) {
    parquet::ReaderProperties file_options;
    file_options.enable_buffered_stream();
    file_options.set_buffer_size(kBufferBytes);
    file_options.set_page_checksum_verification(true);
    parquet::ArrowReaderProperties options;
    options.set_batch_size(kBatchRows);
    options.set_use_threads(false);
    options.set_pre_buffer(false);
    parquet::arrow::FileReaderBuilder builder;
    check(builder.Open(value_of(arrow::io::ReadableFile::Open(path)), file_options));
    builder.properties(options);
    check(builder.Build(&file_));
    batches_ = value_of(file_->GetRecordBatchReader());
    check_names(batches_->schema()->fields(), "a row");
  }

  Next next(Json& row, std::string& fault) override {
    try {
      while (batch_ == nullptr || at_ == batch_->num_rows()) {
        at_ = 0;
        check(batches_->ReadNext(&batch_));
        if (batch_ == nullptr) return Next::kEnd;
        check(batch_->Validate());
      }
      row = Json::object();
      for (int c = 0; c < batch_->num_columns(); ++c) {
        add_unless_null(row, batch_->column_name(c), value_in_column(c));
      }
      ++at_;
      return Next::kRow;
    } catch (const std::exception& error) {
      fault = error.what();
      return Next::kFault;
    }
  }

 private:
  Json value_in_column(int c) const {
    try {
      return parquet_value(*batch_->column(c), at_);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error("column \"" + batch_->column_name(c) + "\": " + error.what());
    }
  }

  std::unique_ptr<parquet::arrow::FileReader> file_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;
  int64_t at_ = 0;
};

}  // namespace
}  // namespace tenon

extern "C" __attribute__((visibility("default"))) tenon::ParquetRows* tenon_open_parquet(
    const char* path, std::string& fault) {
  try {
    return new tenon::Rows(path);
  } catch (const std::exception& error) {
    fault = error.what();
    return nullptr;
  }
}
