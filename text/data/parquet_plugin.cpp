// SPDX-License-Identifier: Apache-2.0
// Parquet by Apache Arrow, row by row: see parquet_plugin.h. Row groups are read in batches of a few
// rows through a buffer, so memory follows the pages and not the file.
#include "text/data/parquet_plugin.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <parquet/arrow/reader.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

namespace tenon {
namespace {

using Json = nlohmann::json;

constexpr int64_t kBatchRows = 64;
constexpr int64_t kBufferBytes = int64_t{1} << 18;
constexpr int kDepth = 64;

Json value_at(const arrow::Array& array, int64_t i, int depth);

template <class Array>
Json bytes_at(const arrow::Array& array, int64_t i) {
  return std::string(static_cast<const Array&>(array).GetView(i));
}

template <class Array>
Json number_at(const arrow::Array& array, int64_t i) {
  return static_cast<const Array&>(array).Value(i);
}

template <class Array>
Json list_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& lists = static_cast<const Array&>(array);
  Json list = Json::array();
  const int64_t begin = lists.value_offset(i), end = begin + lists.value_length(i);
  for (int64_t k = begin; k < end; ++k) list.push_back(value_at(*lists.values(), k, depth + 1));
  return list;
}

Json struct_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& fields = static_cast<const arrow::StructArray&>(array);
  Json object = Json::object();
  for (int f = 0; f < fields.num_fields(); ++f) {
    object[array.type()->field(f)->name()] = value_at(*fields.field(f), i, depth + 1);
  }
  return object;
}

Json entry_at(const arrow::Array& array, int64_t i, int depth) {
  const auto& coded = static_cast<const arrow::DictionaryArray&>(array);
  const int64_t code = coded.GetValueIndex(i);
  if (code < 0 || code >= coded.dictionary()->length()) {
    throw std::runtime_error("a value is not in its dictionary");
  }
  return value_at(*coded.dictionary(), code, depth + 1);
}

Json value_at(const arrow::Array& array, int64_t i, int depth) {
  if (depth > kDepth) throw std::runtime_error("expected at most 64 levels of nesting, got more");
  if (array.IsNull(i)) return nullptr;
  switch (array.type_id()) {
    case arrow::Type::STRING:
    case arrow::Type::BINARY: return bytes_at<arrow::BinaryArray>(array, i);
    case arrow::Type::LARGE_STRING:
    case arrow::Type::LARGE_BINARY: return bytes_at<arrow::LargeBinaryArray>(array, i);
    case arrow::Type::STRING_VIEW:
    case arrow::Type::BINARY_VIEW: return bytes_at<arrow::BinaryViewArray>(array, i);
    case arrow::Type::BOOL: return number_at<arrow::BooleanArray>(array, i);
    case arrow::Type::INT8: return number_at<arrow::Int8Array>(array, i);
    case arrow::Type::INT16: return number_at<arrow::Int16Array>(array, i);
    case arrow::Type::INT32: return number_at<arrow::Int32Array>(array, i);
    case arrow::Type::INT64: return number_at<arrow::Int64Array>(array, i);
    case arrow::Type::UINT8: return number_at<arrow::UInt8Array>(array, i);
    case arrow::Type::UINT16: return number_at<arrow::UInt16Array>(array, i);
    case arrow::Type::UINT32: return number_at<arrow::UInt32Array>(array, i);
    case arrow::Type::UINT64: return number_at<arrow::UInt64Array>(array, i);
    case arrow::Type::FLOAT: return number_at<arrow::FloatArray>(array, i);
    case arrow::Type::DOUBLE: return number_at<arrow::DoubleArray>(array, i);
    case arrow::Type::LIST: return list_at<arrow::ListArray>(array, i, depth);
    case arrow::Type::LARGE_LIST: return list_at<arrow::LargeListArray>(array, i, depth);
    case arrow::Type::FIXED_SIZE_LIST: return list_at<arrow::FixedSizeListArray>(array, i, depth);
    case arrow::Type::STRUCT: return struct_at(array, i, depth);
    case arrow::Type::DICTIONARY: return entry_at(array, i, depth);
    default: return nullptr;
  }
}

template <class T>
T value_of(arrow::Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().message());
  return std::move(result).ValueUnsafe();
}

void check(const arrow::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.message());
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
        row[batch_->column_name(c)] = value_at(*batch_->column(c), at_, 0);
      }
      ++at_;
      return Next::kRow;
    } catch (const std::exception& error) {
      fault = error.what();
      return Next::kFault;
    }
  }

 private:
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
