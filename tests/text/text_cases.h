// SPDX-License-Identifier: Apache-2.0
// What tests about text share: the reference tokenizers, and hashes as make_tokenizer_cases.py
// forms them.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/json.h"
#include "tests/core/temp_folder.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon::test {

inline std::filesystem::path reference(const std::string& name) {
  return std::filesystem::path(TENON_SOURCE_DIR) / "tests/reference/tokenizer" / name;
}

// Where real data lie on a developer's machine; tests that want it are skipped elsewhere.
inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(TENON_SOURCE_DIR) / "../shared/data" / name;
}

inline std::unique_ptr<Tokenizer> reference_tokenizer(const std::string& name) {
  return Tokenizer::load(reference(name));
}

inline std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

// The strings of a reference folder's cases.json, as bytes.
struct TokenizerCase {
  std::string text;
  std::vector<int32_t> ids, plain;
  std::string decoded;
};
inline std::vector<TokenizerCase> reference_cases(const std::string& name) {
  std::vector<TokenizerCase> cases;
  const Json file = parse_json_file(reference(name) / "cases.json");
  for (const Json& c : file.at("cases")) {
    TokenizerCase one{from_hex(c.at("hex")), c.at("ids"), {}, c.at("decoded")};
    one.plain = c.contains("plain") ? c.at("plain").get<std::vector<int32_t>>() : one.ids;
    cases.push_back(std::move(one));
  }
  return cases;
}

// FNV-1a, one step a number.
class Fnv {
 public:
  void add(uint64_t number) { hash_ = (hash_ ^ number) * 0x100000001B3ull; }
  std::string hex() const {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash_));
    return text;
  }

 private:
  uint64_t hash_ = 0xCBF29CE484222325ull;
};

// All files of `from` in a folder that a test may change.
inline void copy_files(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    std::filesystem::copy_file(entry.path(), to / entry.path().filename());
  }
}

}  // namespace tenon::test
