// SPDX-License-Identifier: Apache-2.0
// Finding added tokens ("<|endoftext|>", runs of spaces, ...) in a text: leftmost first, the
// longest of those that begin at the same place; then what the token says of its neighbours.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/marks.h"

namespace tenon {

// One entry of `added_tokens`.
struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false;      // left out by decode(skip_special), and not looked for in plain text
  bool normalized = false;   // looked for after the normalizer, in its own normalized form
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;       // and on its right
  bool single_word = false;  // not where a \w is its neighbour
};

class AddedTokenMatcher {
 public:
  // A stretch of the text: an added token, or (id < 0) what is between.
  struct Piece {
    int32_t id;
    std::string_view text;
  };

  // Adds a token by what is to be found, which for a normalized token is not its content.
  // Requires: pattern is not empty.
  void add(std::string_view pattern, const AddedToken& token);

  // Cuts valid UTF-8. Special tokens that reach into a range of `plain` (in order, none empty) are
  // ordinary text.
  std::vector<Piece> cut(std::string_view text, std::span<const TextRange> plain) const;

  // Appends the ids of a text: added tokens' own, and by `between(piece, begin, marks)` those of what
  // is between two, which begins at byte `begin`. Marks become the places of their ids.
  template <class Between>
  void encode(std::string_view text, std::span<const TextRange> plain, Marks marks,
              std::vector<int32_t>& out, const Between& between) const {
    for (const auto& [id, piece] : cut(text, plain)) {
      const auto begin = static_cast<size_t>(piece.data() - text.data());
      const Marks here = take_marks(marks, begin, begin + piece.size());
      if (id < 0) {
        between(piece, begin, here);
        continue;
      }
      set_marks(here, out.size());
      out.push_back(id);
    }
    set_marks(marks, out.size());
  }

  bool empty() const { return tokens_.empty(); }
  bool has_special() const { return has_special_; }

 private:
  // The index of the longest token at `position` and its length, or -1.
  int32_t longest_at(std::string_view text, size_t position, size_t& length) const;

  // A trie: (node << 8 | byte) -> node; the root is 0.
  std::unordered_map<uint64_t, uint32_t> children_;
  std::vector<int32_t> token_at_ = {-1};  // by node: the token that ends there
  std::vector<AddedToken> tokens_;
  bool first_byte_[256] = {};
  bool has_special_ = false;
};

}  // namespace tenon
