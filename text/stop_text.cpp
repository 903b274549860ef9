// SPDX-License-Identifier: Apache-2.0
#include "text/stop_text.h"

#include <algorithm>

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
  size_t end = std::string::npos, kept = 0;
  for (const std::string& word : words_) {
    end = std::min(end, held_.find(word));
    kept = std::max(kept, begun(held_, word));
  }
  found_ = end != std::string::npos;
  std::string out = held_.substr(0, found_ ? end : held_.size() - kept);
  held_.erase(0, out.size());
  return out;
}

std::string StopText::finish() { return found_ ? std::string() : std::move(held_); }

}  // namespace tenon
