// SPDX-License-Identifier: Apache-2.0
// text/data/token_file.h: a file whose checksum is right leads nowhere outside, whatever else it
// says. Magic, version and checksum are put right here, or nothing would get past them.
#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tests/fuzz/fuzz.h"
#include "text/data/token_file.h"

using namespace tenon;

namespace {

constexpr size_t kEnd = 64;  // bytes of the header, and of the footer

void seal(std::string& bytes) {
  const uint32_t version = 2;
  const size_t footer = bytes.size() - kEnd;
  std::memcpy(&bytes[0], "TENONTOK", 8);
  std::memcpy(&bytes[8], &version, 4);
  std::memcpy(&bytes[footer + 56], "TENONTOK", 8);
  const uint64_t hash = XXH3_64bits_withSeed(&bytes[footer], 48, XXH3_64bits(bytes.data(), footer));
  std::memcpy(&bytes[footer + 48], &hash, 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(fuzz::text_of(data, size));
  if (size >= 2 * kEnd) seal(bytes);
  const auto path = test::put_file(fuzz::folder() / "x.tokens", bytes);
  fuzz::accepts([&] {
    const TokenFile file = TokenFile::open(path);
    int64_t seen = 0, unscored = 0;
    for (int64_t i = 0; i < file.documents(); ++i) {
      const DocumentSpan document = file.document(i);
      fuzz::require(document.begin == seen && document.size() > 0, "documents follow one another");
      std::vector<int32_t> ids(static_cast<size_t>(document.size()));
      file.copy_ids(document.begin, ids);
      fuzz::require(*std::min_element(ids.begin(), ids.end()) >= 0 &&
                        *std::max_element(ids.begin(), ids.end()) <= file.largest_id(),
                    "ids are 0 to the largest");
      unscored += file.unscored_in(document);
      seen = document.end;
    }
    fuzz::require(seen == file.tokens(), "documents are all of the tokens");
    fuzz::require(unscored == file.tokens() - file.scored_tokens(), "spans add up");
    for (int64_t i = 0; i < file.tokens(); ++i) unscored -= file.scored(i) ? 0 : 1;
    fuzz::require(unscored == 0, "a token is scored or not");
    for (const auto& [id, count] : file.special_tokens())
      fuzz::require(id >= 0 && count >= 0, "special tokens are counted");
  });
  return 0;
}
