// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/stop_text.h"

#include <algorithm>
#include <utility>

namespace tenon {
namespace {

// How many bytes at the end of `text` may be the begin of `word`.
size_t begun(std::string_view text, std::string_view word) {
  for (size_t size = std::min(text.size(), word.size() - 1); size > 0; --size) {
    if (text.ends_with(word.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace

std::string StopText::push(std::string_view piece) {
  if (found_) return "";
  held_ += piece;
  // Of several words the one that is complete first counts: so it does not matter how the text was
  // cut. Of those that end together the longest is taken out.
  std::pair<size_t, size_t> first = {std::string::npos, 0};  // end and begin
  size_t kept = 0;
  for (const std::string& word : words_) {
    const size_t at = held_.find(word);
    if (at != std::string::npos) first = std::min(first, {at + word.size(), at});
    kept = std::max(kept, begun(held_, word));
  }
  found_ = first.first != std::string::npos;
  std::string out = held_.substr(0, found_ ? first.second : held_.size() - kept);
  held_.erase(0, out.size());
  return out;
}

std::string StopText::finish() { return found_ ? std::string() : std::move(held_); }

}  // namespace tenon
