// SPDX-License-Identifier: Apache-2.0
// core/json.h: a text as a value, and as members one by one.
#include "core/json.h"

#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz.h"

using namespace tenon;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  Json value;
  const bool whole = fuzz::accepts([&] { value = parse_json(text, "f"); });
  int64_t members = 0;
  const bool parts = fuzz::accepts([&] {
    parse_json_members(text, "f", [&](std::string&, Json&, int64_t byte) {
      fuzz::require(byte > 0 && byte < static_cast<int64_t>(text.size()), "a member's byte");
      ++members;
    });
  });
  if (!whole) return 0;
  fuzz::require(parts == value.is_object(), "an object, and nothing else, has members");
  if (parts) fuzz::require(members == static_cast<int64_t>(value.size()), "each member is given");
  fuzz::require(parse_json(value.dump(), "f") == value, "what is written is read as it was");
  return 0;
}
