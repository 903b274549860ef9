// SPDX-License-Identifier: Apache-2.0
// Safetensors files made by hand, so that they may break the format.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/safetensors.h"

namespace tenon::test {

inline std::string file_of(std::string_view header, std::string_view data = "") {
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file.append(header).append(data);
}

// A member of the header; `shape` and `offsets` as JSON.
inline std::string tensor(std::string_view name, std::string_view dtype, std::string_view shape,
                          std::string_view offsets) {
  return fmt::format("\"{}\":{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":{}}}", name, dtype,
                     shape, offsets);
}

// The header with these members.
inline std::string header_of(const std::vector<std::string>& members) {
  return fmt::format("{{{}}}", fmt::join(members, ","));
}

inline std::string_view text_of(const TensorEntry& entry) {
  return {reinterpret_cast<const char*>(entry.data), static_cast<size_t>(entry.bytes)};
}

}  // namespace tenon::test
