// SPDX-License-Identifier: Apache-2.0
#include "text/byte_level_bpe.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "core/error.h"
#include "text/bpe.h"
#include "text/byte_spelling.h"
#include "text/utf8.h"

namespace tenon {
namespace {

class ByteLevelBpe : public Tokenizer {
 public:
  explicit ByteLevelBpe(const TokenizerSpec& spec);
  using Tokenizer::encode;
  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    encode_text(text, true, out);
  }
  void encode_plain(std::string_view text, std::vector<int32_t>& out) const override {
    encode_text(text, false, out);
  }
  size_t safe_cut(std::string_view text) const override;
  std::string_view bytes(int32_t id) const override {
    return id < 0 || id >= vocabulary_size() ? std::string_view() : bytes_[id];
  }

 private:
  void read_tokens(const TokenizerSpec& spec, const ByteSpelling& spelling);
  void read_added_tokens(const TokenizerSpec& spec);
  std::string normalized(std::string_view text) const;

  // Each takes its part of the way from a text to ids.
  void encode_text(std::string_view text, bool special, std::vector<int32_t>& out) const;
  void encode_piece(std::string_view piece, bool special, std::vector<int32_t>& out) const;
  void encode_parts(std::string_view text, size_t level, std::vector<int32_t>& out) const;
  void encode_words(std::string_view text, std::vector<int32_t>& out) const;
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;

  std::vector<std::string> bytes_;  // by id
  std::array<int32_t, 256> byte_id_;
  std::optional<int32_t> unknown_;
  bool fuse_unknown_, ignore_merges_, add_prefix_space_, gpt2_pattern_;
  MergeTable merges_;
  std::unordered_map<std::string, int32_t> whole_words_;  // where merges are ignored for them
  AddedTokenMatcher raw_added_, normalized_added_;
  std::vector<NormalForm> normalizers_;
  std::vector<std::unique_ptr<RegexSplitter>> splitters_;
  bool cuts_are_known_ = true;  // see safe_cut()

  mutable std::mutex mutex_;  // over what follows and the splitters
  mutable WordCache cache_;
  mutable std::vector<int32_t> symbols_;
  mutable std::string prefixed_;
};

ByteLevelBpe::ByteLevelBpe(const TokenizerSpec& spec)
    : unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      ignore_merges_(spec.ignore_merges),
      add_prefix_space_(spec.add_prefix_space),
      gpt2_pattern_(spec.gpt2_pattern),
      merges_(spec.merges.size()),
      normalizers_(spec.normalizers) {
  const ByteSpelling spelling;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = spec.vocabulary.find(spelling.token_of(byte));
    byte_id_[byte] = found == spec.vocabulary.end() ? -1 : found->second;
  }
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const TokenizerSpec::Merge& merge = spec.merges[rank];
    merges_.add(merge.left, merge.right, {static_cast<int32_t>(rank), merge.merged});
  }
  for (const SplitSpec& split : spec.splits) {
    splitters_.push_back(
        std::make_unique<RegexSplitter>(split.place, split.pattern, split.behavior, split.invert));
  }
  read_tokens(spec, spelling);
  read_added_tokens(spec);
}

void ByteLevelBpe::read_tokens(const TokenizerSpec& spec, const ByteSpelling& spelling) {
  size_t size = spec.by_id.size();
  for (const AddedToken& token : spec.added)
    size = std::max(size, static_cast<size_t>(token.id) + 1);
  tokens_.resize(size);
  bytes_.resize(size);
  for (const auto& [text, id] : spec.vocabulary) tokens_[id] = {text, true, false};
  for (const AddedToken& token : spec.added) {
    const std::string text = token.normalized ? normalized(token.content) : token.content;
    tokens_[token.id] = {text, true, token.special && text == token.content, true};
  }
  for (size_t id = 0; id < size; ++id) bytes_[id] = spelling.bytes_of(tokens_[id].text);
  if (!ignore_merges_) return;
  for (const auto& [text, id] : spec.vocabulary) whole_words_.emplace(spelling.bytes_of(text), id);
}

void ByteLevelBpe::read_added_tokens(const TokenizerSpec& spec) {
  for (const AddedToken& token : spec.added) {
    const std::string pattern = token.normalized ? normalized(token.content) : token.content;
    (token.normalized ? normalized_added_ : raw_added_).add(pattern, token);
    for (size_t i = 1; i < pattern.size(); ++i) {
      if (!space_before(pattern, i) && space_at(pattern, i)) cuts_are_known_ = false;
    }
    if (token.rstrip || (token.single_word && space_at(pattern, 0))) cuts_are_known_ = false;
  }
  if (!splitters_.empty() || !gpt2_pattern_) cuts_are_known_ = false;
}

std::string ByteLevelBpe::normalized(std::string_view text) const {
  std::string result(text);
  for (const NormalForm form : normalizers_) result = normalize(result, form);
  return result;
}

void ByteLevelBpe::encode_text(std::string_view text, bool special,
                               std::vector<int32_t>& out) const {
  const std::lock_guard lock(mutex_);
  std::string repaired;
  if (valid_utf8_prefix(text) != text.size()) {
    append_valid_utf8(text, repaired);
    text = repaired;
  }
  for (const auto& [id, piece] : raw_added_.cut(text, special)) {
    if (id >= 0) {
      out.push_back(id);
    } else if (normalizers_.empty()) {
      encode_piece(piece, special, out);
    } else {
      encode_piece(normalized(piece), special, out);
    }
  }
}

void ByteLevelBpe::encode_piece(std::string_view piece, bool special,
                                std::vector<int32_t>& out) const {
  for (const auto& [id, text] : normalized_added_.cut(piece, special)) {
    if (id >= 0) {
      out.push_back(id);
    } else {
      encode_parts(text, 0, out);
    }
  }
}

void ByteLevelBpe::encode_parts(std::string_view text, size_t level,
                                std::vector<int32_t>& out) const {
  if (level == splitters_.size()) return encode_words(text, out);
  std::vector<std::string_view> parts;
  splitters_[level]->split(text, parts);
  for (const std::string_view part : parts) encode_parts(part, level + 1, out);
}

void ByteLevelBpe::encode_words(std::string_view text, std::vector<int32_t>& out) const {
  if (add_prefix_space_ && !text.starts_with(' ')) {
    prefixed_.assign(1, ' ').append(text);
    text = prefixed_;
  }
  while (!text.empty()) {
    const size_t length = gpt2_pattern_ ? gpt2_word(text) : text.size();
    encode_word(text.substr(0, length), out);
    text.remove_prefix(length);
  }
}

void ByteLevelBpe::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  const bool cached = word.size() <= WordCache::kLongestWord;
  if (cached) {
    if (const std::vector<int32_t>* ids = cache_.find(word)) {
      out.insert(out.end(), ids->begin(), ids->end());
      return;
    }
  }
  const size_t begin = out.size();
  if (ignore_merges_) {
    if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  symbols_.clear();
  bool after_unknown = false;
  for (const char c : word) {
    const int32_t id = byte_id_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      symbols_.push_back(id);
    } else if (unknown_ && !(after_unknown && fuse_unknown_)) {
      symbols_.push_back(*unknown_);
    }
    after_unknown = id < 0;
  }
  merges_.encode(symbols_, out);
  if (cached) cache_.insert(word, std::span(out).subspan(begin));
}

// A cut between a character that is no white space and a space or newline is safe:
//  - Every word of GPT-2's pattern is white space, or has at most one space, and that first: none
//  reaches over the cut.
//    The pattern looks ahead only from within white space, and never back, so both sides are split
//    as in the whole.
//  - A following space or newline neither composes nor reorders with what is before it, and no
//  normal form of another
//    character ends in white space: normalizing the parts gives the parts of the normalized text.
//  - Added tokens: none reaches over such a place, takes white space to its right, or asks there
//  whether a \w is near
//    (constructor: otherwise no cut is known). Those that take white space to their left stop at
//    the cut by themselves.
//  - With add_prefix_space a part that begins with a space gets none, so a newline will not do.
//  - What is invalid in UTF-8 ends before an ASCII byte anyhow.
size_t ByteLevelBpe::safe_cut(std::string_view text) const {
  if (!cuts_are_known_) return 0;
  for (size_t i = text.size(); i-- > 1;) {
    const bool may_lead = text[i] == ' ' || (text[i] == '\n' && !add_prefix_space_);
    if (may_lead && !space_before(text, i)) return i;
  }
  return 0;
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_level_bpe(const TokenizerSpec& spec) {
  return std::make_unique<ByteLevelBpe>(spec);
}

}  // namespace tenon
