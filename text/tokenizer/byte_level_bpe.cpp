// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/byte_level_bpe.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/byte_spelling.h"
#include "text/tokenizer/normalize.h"
#include "text/tokenizer/scratch_pool.h"
#include "text/tokenizer/word_cache.h"
#include "text/unicode_classes.h"
#include "text/utf8.h"

namespace tenon {
namespace {

bool alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// A scanner that cuts a text into words, or null where splitters come before it.
WordScanner* scanner_of(const TokenizerSpec& spec) {
  if (spec.splits.empty()) return spec.gpt2_pattern ? gpt2_word : nullptr;
  if (spec.splits.size() > 1) return nullptr;
  const SplitSpec& split = spec.splits[0];
  const bool isolated = split.behavior == SplitBehavior::kIsolated && !split.invert;
  if (!isolated || spec.add_prefix_space || spec.gpt2_pattern) return nullptr;
  if (split.pattern == kGpt2Pattern) return gpt2_word;
  if (split.pattern == kLlama3Pattern) return llama3_word;
  if (split.pattern == kQwen2Pattern) return qwen2_word;
  return nullptr;
}

// Whether all that is split off before the ByteLevel step is digits, one by one (SmolLM2).
bool only_digits_split(const TokenizerSpec& spec) {
  const auto of_digits = [](const SplitSpec& split) {
    return split.behavior == SplitBehavior::kIsolated && !split.invert &&
           split.pattern == std::string("[\\p{N}") + kDigitsBeyondNumbers + "]";
  };
  return std::all_of(spec.splits.begin(), spec.splits.end(), of_digits);
}

class ByteLevelBpe : public Tokenizer {
 public:
  explicit ByteLevelBpe(const TokenizerSpec& spec);
  size_t safe_cut(std::string_view text) const override;
  std::string_view bytes(int32_t id) const override {
    return id < 0 || id >= vocabulary_size() ? std::string_view() : bytes_[id];
  }

 private:
  // What a call writes to while it encodes.
  struct Scratch {
    WordCache cache;
    std::vector<int32_t> symbols;
    std::string prefixed;
  };

  void read_tokens(const TokenizerSpec& spec, const ByteSpelling& spelling);
  void read_added_tokens(const TokenizerSpec& spec);
  void find_cuts();

  // Each takes its part of the way from a text to ids.
  void encode_text(std::string_view text, bool continued, std::span<const TextRange> plain,
                   Marks marks, std::vector<int32_t>& out) const override;
  void encode_piece(std::string_view piece, std::span<const TextRange> plain, Marks marks,
                    Scratch& scratch, std::vector<int32_t>& out) const;
  void encode_parts(std::string_view text, size_t level, Marks marks, Scratch& scratch,
                    std::vector<int32_t>& out) const;
  void encode_words(std::string_view text, Marks marks, Scratch& scratch,
                    std::vector<int32_t>& out) const;
  void encode_word(std::string_view word, size_t readable, Scratch& scratch,
                   std::vector<int32_t>& out) const;
  size_t covered(std::string_view rest, int32_t id) const;

  std::vector<std::string> bytes_;  // by id
  std::array<int32_t, 256> byte_id_;
  std::optional<int32_t> unknown_;
  bool fuse_unknown_, ignore_merges_, add_prefix_space_;
  MergeTable merges_;
  std::unordered_map<std::string, int32_t> whole_words_;  // where merges are ignored for them
  AddedTokenMatcher raw_added_, normalized_added_;
  std::vector<std::string> added_patterns_;  // what the two look for
  Normalizer normalizer_;
  std::vector<std::unique_ptr<RegexSplitter>> splitters_;
  WordScanner* scanner_;        // cuts what the splitters leave; null: each part is one word
  bool cuts_are_known_ = true;  // see safe_cut()
  std::array<bool, 256> cut_behind_alnum_{};  // by byte: whether a part may begin with it there
  mutable ScratchPool<Scratch> scratches_;
};

ByteLevelBpe::ByteLevelBpe(const TokenizerSpec& spec)
    : unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      ignore_merges_(spec.ignore_merges),
      add_prefix_space_(spec.add_prefix_space),
      merges_(spec.merges.size()),
      normalizer_(spec.normalizer),
      scanner_(scanner_of(spec)) {
  const ByteSpelling spelling;
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = spec.vocabulary.find(spelling.token_of(byte));
    byte_id_[byte] = found == spec.vocabulary.end() ? -1 : found->second;
  }
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const TokenizerSpec::Merge& merge = spec.merges[rank];
    merges_.add(merge.left, merge.right, {static_cast<int32_t>(rank), merge.merged});
  }
  if (scanner_ == nullptr) {
    for (const SplitSpec& split : spec.splits) {
      splitters_.push_back(std::make_unique<RegexSplitter>(split.place, split.pattern,
                                                           split.behavior, split.invert));
    }
    if (spec.gpt2_pattern) scanner_ = gpt2_word;
  }
  read_tokens(spec, spelling);
  read_added_tokens(spec);
  if (scanner_ == nullptr || (!splitters_.empty() && !only_digits_split(spec))) {
    cuts_are_known_ = false;
  }
  find_cuts();
}

void ByteLevelBpe::read_tokens(const TokenizerSpec& spec, const ByteSpelling& spelling) {
  size_t size = spec.by_id.size();
  for (const AddedToken& token : spec.added)
    size = std::max(size, static_cast<size_t>(token.id) + 1);
  tokens_.resize(size);
  bytes_.resize(size);
  for (const auto& [text, id] : spec.vocabulary) tokens_[id] = {text, true, false};
  for (const AddedToken& token : spec.added) {
    const std::string text = token.normalized ? normalizer_(token.content) : token.content;
    tokens_[token.id] = {text, true, token.special && text == token.content, true};
  }
  for (size_t id = 0; id < size; ++id) bytes_[id] = spelling.bytes_of(tokens_[id].text);
  if (!ignore_merges_) return;
  for (const auto& [text, id] : spec.vocabulary) whole_words_.emplace(spelling.bytes_of(text), id);
}

void ByteLevelBpe::read_added_tokens(const TokenizerSpec& spec) {
  for (const AddedToken& token : spec.added) {
    const std::string pattern = token.normalized ? normalizer_(token.content) : token.content;
    (token.normalized ? normalized_added_ : raw_added_).add(pattern, token);
    added_patterns_.push_back(pattern);
    if (token.rstrip || token.single_word) cuts_are_known_ = false;
  }
}

// See safe_cut().
void ByteLevelBpe::find_cuts() {
  for (const char c : std::string_view("\n!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~"))
    cut_behind_alnum_[static_cast<unsigned char>(c)] = !add_prefix_space_;
  for (const std::string& pattern : added_patterns_) {
    for (size_t i = 1; i < pattern.size(); ++i) {
      if (!space_before(pattern, i) && space_at(pattern, i)) cuts_are_known_ = false;
      if (alnum(pattern[i - 1])) cut_behind_alnum_[static_cast<unsigned char>(pattern[i])] = false;
    }
  }
}

// No step puts anything before a text, so that it matters not whether it is a text that goes on.
void ByteLevelBpe::encode_text(std::string_view text, bool /*continued*/,
                               std::span<const TextRange> plain, Marks marks,
                               std::vector<int32_t>& out) const {
  const auto scratch = scratches_.borrow([] { return std::make_unique<Scratch>(); });
  raw_added_.encode(text, plain, marks, out,
                    [&](std::string_view piece, size_t begin, const Marks& here) {
                      std::vector<TextRange> plain_here;
                      if (normalized_added_.has_special())
                        plain_here = ranges_within(plain, begin, begin + piece.size());
                      if (normalizer_.empty())
                        return encode_piece(piece, plain_here, here, *scratch, out);
                      plain_here = normalized_ranges(normalizer_, piece, true, plain_here);
                      encode_piece(normalizer_(piece, true, here), plain_here, here, *scratch, out);
                    });
}

void ByteLevelBpe::encode_piece(std::string_view piece, std::span<const TextRange> plain,
                                Marks marks, Scratch& scratch, std::vector<int32_t>& out) const {
  normalized_added_.encode(piece, plain, marks, out,
                           [&](std::string_view text, size_t, const Marks& here) {
                             encode_parts(text, 0, here, scratch, out);
                           });
}

void ByteLevelBpe::encode_parts(std::string_view text, size_t level, Marks marks, Scratch& scratch,
                                std::vector<int32_t>& out) const {
  if (level == splitters_.size()) return encode_words(text, marks, scratch, out);
  std::vector<std::string_view> parts;
  splitters_[level]->split(text, parts);
  for (const std::string_view part : parts) {
    const auto begin = static_cast<size_t>(part.data() - text.data());
    encode_parts(part, level + 1, take_marks(marks, begin, begin + part.size()), scratch, out);
  }
  set_marks(marks, out.size());
}

void ByteLevelBpe::encode_words(std::string_view text, Marks marks, Scratch& scratch,
                                std::vector<int32_t>& out) const {
  if (add_prefix_space_ && !text.starts_with(' ')) {
    scratch.prefixed.assign(1, ' ').append(text);
    text = scratch.prefixed;
    shift_marks(marks, 1);
  }
  const size_t first = out.size();
  for (std::string_view rest = text; !rest.empty();) {
    const size_t length = scanner_ == nullptr ? rest.size() : scanner_(rest);
    encode_word(rest.substr(0, length), rest.size(), scratch, out);
    rest.remove_prefix(length);
  }
  if (marks.empty()) return;
  place_marks(text, marks, out, first,
              [this](std::string_view rest, int32_t id) { return covered(rest, id); });
}

// How many bytes at the front of a rest of a word a token stands for: its own, with those between
// that the vocabulary lacks; of the unknown token the run of such bytes, or one.
size_t ByteLevelBpe::covered(std::string_view rest, int32_t id) const {
  const auto lacking = [&](size_t i) {
    return i < rest.size() && byte_id_[static_cast<unsigned char>(rest[i])] < 0;
  };
  size_t size = 0;
  if (id == unknown_ && lacking(0)) {
    do {
      ++size;
    } while (fuse_unknown_ && lacking(size));
    return size;
  }
  if (rest.starts_with(bytes_[id])) return bytes_[id].size();
  for (size_t i = 0; i < bytes_[id].size(); ++i) {
    while (lacking(size)) ++size;
    ++size;
  }
  return size;
}

void ByteLevelBpe::encode_word(std::string_view word, size_t readable, Scratch& scratch,
                               std::vector<int32_t>& out) const {
  if (scratch.cache.append(word, readable, out)) return;
  const size_t begin = out.size();
  const auto whole = ignore_merges_ ? whole_words_.find(std::string(word)) : whole_words_.end();
  if (whole != whole_words_.end()) {
    out.push_back(whole->second);
  } else {
    std::vector<int32_t>& symbols = scratch.symbols;
    symbols.clear();
    bool after_unknown = false;
    for (const char c : word) {
      const int32_t id = byte_id_[static_cast<unsigned char>(c)];
      if (id >= 0) {
        symbols.push_back(id);
      } else if (unknown_ && !(after_unknown && fuse_unknown_)) {
        symbols.push_back(*unknown_);
      }
      after_unknown = id < 0;
    }
    merges_.encode(symbols, out);
  }
  scratch.cache.insert(word, std::span(out).subspan(begin));
}

// A cut between a character that is no white space and a space or newline is safe, and one between
// an ASCII letter or digit and a newline or ASCII punctuation:
//  - No word of a scanner reaches over it: white space and punctuation follow neither letters nor
//    numbers in any of them; a space follows only white space; and a newline follows punctuation in
//    those of Llama 3's kind alone.
//    The patterns look ahead only from within white space, and never back, so both sides are split
//    as in the whole.
//  - What follows neither composes nor reorders with what is before it. No normal form of another
//    character ends in white space, and ASCII stays as it is: normalizing the parts gives the parts
//    of the normalized text.
//  - Added tokens: none reaches over such a place, takes white space to its right, or asks whether
//    a \w is near (find_cuts; otherwise no cut is known, or none before that character). Those that
//    take white space to their left stop at the cut by themselves.
//  - With add_prefix_space a part that begins with a space gets none, so nothing else will do.
//  - What is invalid in UTF-8 ends before an ASCII byte anyhow.
size_t ByteLevelBpe::safe_cut(std::string_view text) const {
  if (!cuts_are_known_) return 0;
  const bool before_newline = scanner_ == gpt2_word && !add_prefix_space_;
  for (size_t i = text.size(); i-- > 1;) {
    if (text[i] == ' ' || (text[i] == '\n' && before_newline)) {
      if (!space_before(text, i)) return i;
    } else if (cut_behind_alnum_[static_cast<unsigned char>(text[i])] && alnum(text[i - 1])) {
      return i;
    }
  }
  return 0;
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_level_bpe(const TokenizerSpec& spec) {
  return std::make_unique<ByteLevelBpe>(spec);
}

}  // namespace tenon
