// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer.h"

#include <algorithm>

#include "text/byte_level_bpe.h"
#include "text/tokenizer_spec.h"
#include "text/utf8.h"

namespace tenon {

// The kinds of tokenizer: each is a file of its own that turns a checked TokenizerSpec into a
// Tokenizer. What none of them takes, read_tokenizer_spec() has refused by name.
std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
  return make_byte_level_bpe(read_tokenizer_spec(directory));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_framed(std::string_view text) const {
  const std::vector<int32_t> ids = encode(text);
  std::vector<int32_t> framed;
  const bool begun =
      ids.size() >= prefix_.size() && std::equal(prefix_.begin(), prefix_.end(), ids.begin());
  const bool ended =
      ids.size() >= suffix_.size() && std::equal(suffix_.rbegin(), suffix_.rend(), ids.rbegin());
  if (!begun) framed = prefix_;
  framed.insert(framed.end(), ids.begin(), ids.end());
  if (!ended) framed.insert(framed.end(), suffix_.begin(), suffix_.end());
  return framed;
}

std::optional<std::string_view> Tokenizer::token(int32_t id) const {
  if (id < 0 || id >= vocabulary_size() || !tokens_[id].present) return std::nullopt;
  return tokens_[id].text;
}

bool Tokenizer::is_special(int32_t id) const {
  return token(id).has_value() && tokens_[id].special;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string raw, text;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) raw += bytes(id);
  }
  append_valid_utf8(raw, text);
  return text;
}

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_ && tokenizer_.is_special(id)) return "";
  pending_ += tokenizer_.bytes(id);
  const size_t complete = pending_.size() - unfinished_utf8_tail(pending_);
  std::string text;
  append_valid_utf8(std::string_view(pending_).substr(0, complete), text);
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  append_valid_utf8(pending_, text);
  pending_.clear();
  return text;
}

}  // namespace tenon
