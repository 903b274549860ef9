// SPDX-License-Identifier: Apache-2.0
// What the program asks of the library that reads Parquet. That library stands beside the program
// and is opened when a .parquet is: Arrow's 61 MB are no part of any other start. Both come from one
// build, so what passes between them are C++ objects; exceptions stay inside.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tenon {

class ParquetRows {
 public:
  virtual ~ParquetRows() = default;
  enum class Next { kRow, kEnd, kFault };
  // The next row as an object of its columns in the file's order: strings (bytes too: they may not
  // be UTF-8), numbers, truth values, lists, objects of these, and maps as objects. Decimals, dates
  // and times are strings as Python writes them (times by ISO 8601). What is null is not there:
  // Arrow gives all objects of a column the same members. Of a type that is not read there is its
  // name, as binary: whoever needs the value says so. After kFault, which says in `fault` what
  // is wrong, nothing follows.
  virtual Next next(nlohmann::ordered_json& row, std::string& fault) = 0;
};

// extern "C" ParquetRows* tenon_open_parquet(const char* path, std::string& fault), null with
// `fault`; to be deleted by the caller.
using OpenParquet = ParquetRows* (*)(const char* path, std::string& fault);
inline constexpr const char* kOpenParquet = "tenon_open_parquet";

}  // namespace tenon
