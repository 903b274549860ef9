// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace tenon {
namespace {

uint8_t byte_at(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

}  // namespace

void AddedTokenMatcher::add(std::string_view pattern, const AddedToken& token) {
  uint64_t node = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const auto [child, added] =
        children_.try_emplace(node << 8 | byte_at(pattern, i), token_at_.size());
    if (added) token_at_.push_back(-1);
    node = child->second;
  }
  if (token_at_[node] < 0) token_at_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  first_byte_[byte_at(pattern, 0)] = true;
  has_special_ |= token.special;
}

int32_t AddedTokenMatcher::longest_at(std::string_view text, size_t position,
                                      size_t& length) const {
  int32_t best = -1;
  uint64_t node = 0;
  for (size_t i = position; i < text.size(); ++i) {
    const auto child = children_.find(node << 8 | byte_at(text, i));
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_[node] >= 0) {
      best = token_at_[node];
      length = i + 1 - position;
    }
  }
  return best;
}

std::vector<AddedTokenMatcher::Piece> AddedTokenMatcher::cut(
    std::string_view text, std::span<const TextRange> plain) const {
  std::vector<Piece> pieces;
  if (text.empty()) return pieces;
  if (empty()) return {{-1, text}};
  size_t done = 0;   // everything before is in a piece
  size_t range = 0;  // the first of `plain` that ends behind the place
  for (size_t i = 0; i < text.size();) {
    size_t length = 0;
    const int32_t index = first_byte_[byte_at(text, i)] ? longest_at(text, i, length) : -1;
    if (index < 0) {
      ++i;
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = i, end = i + length;
    while (range < plain.size() && plain[range].end <= begin) ++range;
    if (token.special && range < plain.size() && plain[range].begin < end) {
      i = std::min(end, plain[range].end);  // where the plain text ends another token may begin
      continue;
    }
    i = end;  // the next token is looked for behind this one, even if this one does not count
    if (token.single_word && (word_before(text, begin) || word_at(text, end))) continue;
    if (token.lstrip) begin = std::max(spaces_begin(text, begin), done);
    if (token.rstrip) end = spaces_end(text, end);
    if (done < begin) pieces.push_back({-1, text.substr(done, begin - done)});
    pieces.push_back({token.id, text.substr(begin, end - begin)});
    done = end;
  }
  if (done < text.size()) pieces.push_back({-1, text.substr(done)});
  return pieces;
}

}  // namespace tenon
