// SPDX-License-Identifier: Apache-2.0
// JSON as Tenon reads it: strict, bounded and with the place of a fault. Refused beside what is not
// JSON: duplicate keys, NaN and Infinity (Python writes them), nesting deeper than 256, byte order
// marks, UTF-16, invalid UTF-8.
//
//   const JsonObject config = JsonObject::read(folder / "config.json");
//   const int64_t heads = config.integer("n_head", 1, 65536);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // its keys have the order of the text

inline constexpr int kJsonDepth = 256;
// What a file may hold: one of settings (config.json and those beside it), and one of a vocabulary
// or of a tensor index.
inline constexpr int64_t kJsonFileBytes = int64_t{16} << 20;
inline constexpr int64_t kLargeJsonFileBytes = int64_t{256} << 20;
inline constexpr int64_t kJsonMemberValues = 100'000;

// `where` begins every message: a file, or "<file>: line 7". Positions follow it as
// ":<line>:<column>", in bytes.
Json parse_json(std::string_view text, const std::string& where);
OrderedJson parse_ordered_json(std::string_view text, const std::string& where);
Json parse_json_file(const std::filesystem::path& path, int64_t max_bytes = kJsonFileBytes);

// Parses an object and hands over its members one by one, each with the byte at which its key ends,
// so that a large object is never held as a whole. Names of the members may repeat: the caller sees
// them all. A member may have kJsonMemberValues values within it.
using JsonMember = std::function<void(std::string& name, Json& value, int64_t byte)>;
void parse_json_members(std::string_view text, const std::string& where, const JsonMember& member);

// A value as it may stand after "got": scalars as written, containers by kind; escaped and cut.
std::string brief(const Json& value);
std::string brief(const OrderedJson& value);

// Typed reading of an object's fields. A fault reads `<where>: field "n_head": expected an integer
// in 1..65536, got "32"`. A getter with a fallback returns it for an absent field only; null counts
// as absent for optional_* only.
class JsonObject {
 public:
  // Throws Error(kInput) unless `value` is an object.
  JsonObject(Json value, std::string where);
  static JsonObject read(const std::filesystem::path& path, int64_t max_bytes = kJsonFileBytes);

  int64_t integer(const std::string& key, int64_t min, int64_t max) const;
  int64_t integer(const std::string& key, int64_t min, int64_t max, int64_t fallback) const;
  std::optional<int64_t> optional_integer(const std::string& key, int64_t min, int64_t max) const;
  // One integer or a list of them; absent or null is an empty list (eos_token_id comes in all four
  // forms).
  std::vector<int64_t> integers(const std::string& key, int64_t min, int64_t max) const;

  double number(const std::string& key, double min, double max) const;
  double number(const std::string& key, double min, double max, double fallback) const;
  std::optional<double> optional_number(const std::string& key, double min, double max) const;

  bool boolean(const std::string& key) const;
  bool boolean(const std::string& key, bool fallback) const;

  std::string text(const std::string& key) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  std::optional<std::string> optional_text(const std::string& key) const;

  // One of `choices`; the message lists them and names the nearest.
  std::string choice(const std::string& key, std::initializer_list<std::string_view> choices) const;
  std::string choice(const std::string& key, std::initializer_list<std::string_view> choices,
                     const std::string& fallback) const;

  // A nested object; its messages name fields as "outer.inner".
  JsonObject object(const std::string& key) const;
  std::optional<JsonObject> optional_object(const std::string& key) const;

  // The field as it stands, null included; nullptr when absent. Lives as long as any JsonObject of
  // the same document.
  const Json* find(const std::string& key) const;
  bool has(const std::string& key) const { return find(key) != nullptr; }
  std::vector<std::string> keys() const;
  const Json& json() const { return *value_; }
  const std::string& where() const { return where_; }

  // Throws `<where>: field "key": expected <expected>, got <value or nothing>`: for rules of the
  // caller.
  [[noreturn]] void reject(const std::string& key, const std::string& expected) const;

 private:
  JsonObject(std::shared_ptr<const Json> value, std::string where, std::string prefix);
  const Json& required(const std::string& key, const std::string& expected) const;
  bool absent_or_null(const std::string& key) const;

  std::shared_ptr<const Json> value_;
  std::string where_;
  std::string prefix_;  // "outer." for the fields of a nested object
};

}  // namespace tenon
