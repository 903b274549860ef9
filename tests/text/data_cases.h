// SPDX-License-Identifier: Apache-2.0
// The files that tests/reference/make_data_cases.py writes.
#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "tests/text/text_cases.h"
#include "text/data/documents.h"

namespace tenon::test {

inline std::filesystem::path data_case(const std::string& name) {
  return std::filesystem::path(TENON_SOURCE_DIR) / "tests/reference/data" / name;
}

// Warns where it is false.
inline bool reads_parquet() {
  const std::string error = error_of([] { open_documents(data_case("chat.parquet"), {}); });
  if (error.find("built without Parquet") == std::string::npos) return true;
  WARN("SKIPPED: this build reads no .parquet");
  return false;
}

}  // namespace tenon::test
