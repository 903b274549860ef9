// SPDX-License-Identifier: Apache-2.0
// A tokenizer from one file of a folder that has no other.
#pragma once

#include "tests/fuzz/fuzz.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon::fuzz {

inline void load_and_use(const char* name, std::string_view bytes) {
  test::put_file(folder() / name, bytes);
  accepts([&] {
    const auto tokenizer = Tokenizer::load(folder().path());
    for (const std::string_view text : {"", " The map, in 1984:\n\tat  home! <s></s><|endoftext|>",
                                        "\xC3\xA9\xE2\x82\xAC\xFF\xF0\x9F"}) {
      std::vector<int32_t> ids = tokenizer->encode(text);
      tokenizer->encode_plain(text, ids);
      tokenizer->encode_continued(text, true, ids);
      for (const int32_t id : ids)
        require(id >= 0 && id < tokenizer->vocabulary_size(), "ids are of the vocabulary");
      require(tokenizer->safe_cut(text) <= text.size(), "a cut is within the text");
      tokenizer->decode(ids);
    }
    for (int32_t id = -1; id <= tokenizer->vocabulary_size(); ++id) tokenizer->bytes(id);
  });
}

}  // namespace tenon::fuzz
