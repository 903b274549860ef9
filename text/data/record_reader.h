// SPDX-License-Identifier: Apache-2.0
// The records of a data file as JSON objects, one after the other, whatever the file's kind: a line
// of .jsonl, a value of a .json array, a row of .csv or .parquet. Keys have the file's order, since
// templates write some of them out.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/json.h"
#include "text/data/documents.h"

namespace tenon {

struct Record {
  // Not yet known to be an object. Binary within it is the name of a type that is not read.
  OrderedJson value;
  std::string place;  // "file:line", "file:line:column" or "file: row N"
  std::string begin;  // the record's first bytes as the file has them; "" where it has no text
  std::string fault;  // why `value` could not be read, place included; "" for a good record
};

class RecordReader {
 public:
  virtual ~RecordReader() = default;
  // The next record, good or bad; false at the end. Throws Error(kInput) where the file is damaged
  // so that no further record can be found.
  virtual bool next(Record& record) = 0;
};

// A record is held as a whole, so its size is bounded.
inline constexpr size_t kRecordBytes = size_t{256} << 20;

std::unique_ptr<RecordReader> read_lines(const std::filesystem::path& path, ByteRange range);
std::unique_ptr<RecordReader> read_values(const std::filesystem::path& path);
std::unique_ptr<RecordReader> read_csv(const std::filesystem::path& path);
std::unique_ptr<RecordReader> read_parquet(const std::filesystem::path& path);

// Parses a part of a file, or says in `record.fault` what is wrong with it and where in the file:
// the part begins at `line` and `column`, from 1.
void parse_record(std::string_view text, const std::string& file, int64_t line, int64_t column,
                  Record& record);

}  // namespace tenon
