// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/pipeline_tokenizer.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "core/error.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/scratch_pool.h"
#include "text/tokenizer/spelled_space.h"
#include "text/tokenizer/word_cache.h"
#include "text/utf8.h"

namespace tenon {
namespace {

class Pipeline : public Tokenizer {
 public:
  explicit Pipeline(const TokenizerSpec& spec);
  size_t safe_cut(std::string_view text) const override;
  std::string_view bytes(int32_t id) const override;
  std::unique_ptr<TextDecoder> start_decoding() const override {
    return make_decoder_chain(decoder_,
                              [this](int32_t id) { return std::string_view(tokens_[id].text); });
  }

 private:
  // What a call writes to while it encodes.
  struct Scratch {
    WordCache cache;
    std::vector<int32_t> symbols;
  };

  void read_vocabulary(const TokenizerSpec& spec);
  void read_added_tokens(const TokenizerSpec& spec);
  bool cuts_are_known(const TokenizerSpec& spec) const;

  // Each takes its part of the way from a text to ids.
  void encode_text(std::string_view text, bool continued, std::span<const TextRange> plain,
                   Marks marks, std::vector<int32_t>& out) const override;
  void encode_piece(std::string_view piece, Place place, std::span<const TextRange> plain,
                    Marks marks, Scratch& scratch, std::vector<int32_t>& out) const;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const;
  void encode_chunk(std::string_view chunk, size_t readable, Scratch& scratch,
                    std::vector<int32_t>& out) const;
  void take_symbols(std::string_view chunk, std::vector<int32_t>& symbols) const;
  int32_t id_of(const Utf8Char& c) const {
    const bool known = c.kind == Utf8Char::kValid && c.code < id_of_character_.size();
    return known ? id_of_character_[c.code] : -1;
  }
  size_t covered(std::string_view rest, int32_t id) const;

  std::vector<int32_t> id_of_character_;
  std::array<int32_t, 256> byte_id_;
  std::optional<int32_t> unknown_;
  bool fuse_unknown_, byte_fallback_, ignore_merges_;
  bool cuts_at_spaces_;  // no token has kSpelledSpace behind another character
  MergeTable merges_;
  std::unordered_map<std::string, int32_t> whole_words_;  // where merges are ignored for them
  AddedTokenMatcher raw_added_, normalized_added_;
  std::vector<std::string> added_texts_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::vector<DecoderStep> decoder_;
  bool cuts_are_known_;

  mutable ScratchPool<Scratch> scratches_;
  mutable std::mutex mutex_;                // over what follows
  mutable std::vector<std::string> bytes_;  // by id; "" where nobody asked yet
};

Pipeline::Pipeline(const TokenizerSpec& spec)
    : unknown_(spec.unknown),
      fuse_unknown_(spec.fuse_unknown),
      byte_fallback_(spec.byte_fallback),
      ignore_merges_(spec.ignore_merges),
      merges_(spec.merges.size()),
      normalizer_(spec.normalizer),
      pre_tokenizer_(spec.pre_tokenizer),
      decoder_(spec.decoder) {
  read_vocabulary(spec);
  read_added_tokens(spec);
  cuts_are_known_ = cuts_are_known(spec);
  Pipeline::start_decoding();  // throws here what is wrong with a pattern
}

void Pipeline::read_vocabulary(const TokenizerSpec& spec) {
  size_t size = spec.by_id.size();
  for (const AddedToken& token : spec.added)
    size = std::max(size, static_cast<size_t>(token.id) + 1);
  tokens_.resize(size);
  byte_id_.fill(-1);
  cuts_at_spaces_ = spec.vocabulary.contains(std::string(kSpelledSpace));
  for (const auto& [text, id] : spec.vocabulary) {
    tokens_[id] = {text, true, false};
    const Utf8Char c = text.empty() ? Utf8Char{0, 0, Utf8Char::kInvalid} : first_utf8(text);
    if (c.kind == Utf8Char::kValid && c.length == text.size()) {
      if (c.code >= id_of_character_.size()) id_of_character_.resize(c.code + 1, -1);
      id_of_character_[c.code] = id;
    }
    // Upper case only: "<0x0a>" is no token for a byte.
    const int byte = byte_of_token(text);
    const bool upper =
        std::none_of(text.begin(), text.end(), [](char d) { return d >= 'a' && d <= 'f'; });
    if (byte >= 0 && upper) byte_id_[byte] = id;
    if (ignore_merges_) whole_words_.emplace(text, id);
  }
  for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
    const TokenizerSpec::Merge& merge = spec.merges[rank];
    merges_.add(merge.left, merge.right, {static_cast<int32_t>(rank), merge.merged});
    if (has_inner_spelled_space(tokens_[merge.merged].text)) cuts_at_spaces_ = false;
  }
}

void Pipeline::read_added_tokens(const TokenizerSpec& spec) {
  for (const AddedToken& token : spec.added) {
    const std::string pattern = token.normalized ? normalizer_(token.content) : token.content;
    // Hugging Face's leaves out special tokens by their name: not one that the normalizer renamed.
    tokens_[token.id] = {pattern, true, token.special && pattern == token.content, true};
    added_texts_.push_back(token.content);
    if (!pattern.empty()) (token.normalized ? normalized_added_ : raw_added_).add(pattern, token);
  }
}

// What the decoder makes of a token behind another one.
std::string_view Pipeline::bytes(int32_t id) const {
  if (!token(id)) return {};
  const std::lock_guard lock(mutex_);
  bytes_.resize(tokens_.size());
  std::string& bytes = bytes_[id];
  if (!bytes.empty()) return bytes;
  const bool has_bytes = std::any_of(decoder_.begin(), decoder_.end(), [](const DecoderStep& step) {
    return step.kind == DecoderStep::kByteFallback;
  });
  const int byte = has_bytes ? byte_of_token(tokens_[id].text) : -1;
  if (byte >= 0) return bytes = static_cast<char>(byte);
  std::vector<DecoderStep> steps = decoder_;
  for (DecoderStep& step : steps) {
    step.drop_first = false;
    step.left = step.right = 0;
  }
  const auto decoder =
      make_decoder_chain(steps, [&](int32_t i) { return std::string_view(tokens_[i].text); });
  decoder->push(id, bytes);
  decoder->finish(bytes);
  return bytes;
}

void Pipeline::encode_text(std::string_view text, bool continued, std::span<const TextRange> plain,
                           Marks marks, std::vector<int32_t>& out) const {
  const auto scratch = scratches_.borrow([] { return std::make_unique<Scratch>(); });
  const bool behind_added = continued && !out.empty() && is_added(out.back());
  const Place place = behind_added ? Place::kInside : continued ? Place::kContinued : Place::kStart;
  raw_added_.encode(
      text, plain, marks, out, [&](std::string_view piece, size_t begin, const Marks& here) {
        const Place stands = begin == 0 ? place : Place::kInside;
        std::vector<TextRange> plain_here;
        if (normalized_added_.has_special())
          plain_here = ranges_within(plain, begin, begin + piece.size());
        if (normalizer_.empty())
          return encode_piece(piece, stands, plain_here, here, *scratch, out);
        const bool prepend = stands != Place::kContinued;
        plain_here = normalized_ranges(normalizer_, piece, prepend, plain_here);
        encode_piece(normalizer_(piece, prepend, here), stands, plain_here, here, *scratch, out);
      });
}

void Pipeline::encode_piece(std::string_view piece, Place place, std::span<const TextRange> plain,
                            Marks marks, Scratch& scratch, std::vector<int32_t>& out) const {
  normalized_added_.encode(
      piece, plain, marks, out, [&](std::string_view text, size_t begin, const Marks& here) {
        const PreTokenizer::Words cut =
            pre_tokenizer_.cut(text, begin == 0 ? place : Place::kInside, here);
        size_t* dropped = here.data();  // the first mark that is in no word so far
        for (const PreTokenizer::Part& word : cut.words) {
          const size_t first = out.size();
          encode_word(word.text, scratch, out);
          std::fill(dropped, word.marks.data(), first);
          dropped = word.marks.data() + word.marks.size();
          if (word.marks.empty()) continue;
          place_marks(
              word.text, word.marks, out, first,
              [this](std::string_view rest, int32_t token) { return covered(rest, token); });
        }
        std::fill(dropped, here.data() + here.size(), out.size());
      });
}

// How many bytes at the front of a rest of a word a token stands for: its text, or its byte, with
// characters between that the vocabulary lacks; of the unknown token the run of such, or one.
size_t Pipeline::covered(std::string_view rest, int32_t id) const {
  const std::string& text = tokens_[id].text;
  const auto length_at = [&](size_t i) { return first_utf8(rest.substr(i)).length; };
  const auto lacking = [&](size_t i) {
    return i < rest.size() && id_of(first_utf8(rest.substr(i))) < 0;
  };
  size_t size = 0;
  if (id == unknown_ && lacking(0)) {
    do {
      size += length_at(size);
    } while (fuse_unknown_ && lacking(size));
    return size;
  }
  if (rest.starts_with(text)) return text.size();
  const int byte = byte_fallback_ ? byte_of_token(text) : -1;
  if (byte >= 0 && !rest.empty() && static_cast<unsigned char>(rest[0]) == byte) return 1;
  for (std::string_view left = text; !left.empty(); left.remove_prefix(first_utf8(left).length)) {
    while (lacking(size)) size += length_at(size);
    if (size < rest.size()) size += length_at(size);
  }
  return size;
}

// A word may be a whole text: it is taken in chunks where that changes nothing, which come again
// more often.
void Pipeline::encode_word(std::string_view word, Scratch& scratch,
                           std::vector<int32_t>& out) const {
  if (ignore_merges_) {
    if (const auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  while (!word.empty()) {
    size_t end = word.size();
    if (cuts_at_spaces_) {
      size_t begin = 0;
      while (word.substr(begin).starts_with(kSpelledSpace)) begin += kSpelledSpace.size();
      end = std::min(word.find(kSpelledSpace, begin), word.size());
    }
    encode_chunk(word.substr(0, end), word.size(), scratch, out);
    word.remove_prefix(end);
  }
}

void Pipeline::encode_chunk(std::string_view chunk, size_t readable, Scratch& scratch,
                            std::vector<int32_t>& out) const {
  if (scratch.cache.append(chunk, readable, out)) return;
  const size_t begin = out.size();
  take_symbols(chunk, scratch.symbols);
  merges_.encode(scratch.symbols, out);
  scratch.cache.insert(chunk, std::span(out).subspan(begin));
}

// The characters' ids. An unknown token waits for the next known character: bytes that stand for
// characters in between come before it (as in Hugging Face's).
void Pipeline::take_symbols(std::string_view chunk, std::vector<int32_t>& symbols) const {
  symbols.clear();
  bool waiting = false;
  for (std::string_view rest = chunk; !rest.empty();) {
    const Utf8Char c = first_utf8(rest);
    const std::string_view bytes = rest.substr(0, c.length);
    rest.remove_prefix(c.length);
    const int32_t id = id_of(c);
    const auto byte_id = [&](char b) { return byte_id_[static_cast<unsigned char>(b)]; };
    if (id >= 0) {
      if (waiting) symbols.push_back(*unknown_);
      waiting = false;
      symbols.push_back(id);
    } else if (byte_fallback_ &&
               std::all_of(bytes.begin(), bytes.end(), [&](char b) { return byte_id(b) >= 0; })) {
      for (const char b : bytes) symbols.push_back(byte_id(b));
    } else if (unknown_) {
      if (waiting && !fuse_unknown_) symbols.push_back(*unknown_);
      waiting = true;
    }
  }
  if (waiting) symbols.push_back(*unknown_);
}

// Before a space that follows another character a text may be cut where spaces become kSpelledSpace, begin
// a chunk of their own and no step looks further than its own character.
bool Pipeline::cuts_are_known(const TokenizerSpec& spec) const {
  bool spelled = false;  // whether spaces are kSpelledSpace by now
  if (!cuts_at_spaces_ || ignore_merges_) return false;
  for (const NormalizerStep& step : spec.normalizer) {
    const bool spells = step.kind == NormalizerStep::kReplace && step.pattern == " " &&
                        step.content == kSpelledSpace;
    if (!spells && step.kind != NormalizerStep::kPrepend) return false;
    spelled |= spells;
  }
  if (!spec.pre_tokenizer.empty()) {
    const PreTokenizerStep& step = spec.pre_tokenizer[0];
    if (spec.pre_tokenizer.size() > 1 || step.kind != PreTokenizerStep::kMetaspace ||
        step.replacement != kSpelledSpace) {
      return false;
    }
    spelled = true;
  }
  return spelled && std::none_of(spec.added.begin(), spec.added.end(), [](const AddedToken& token) {
           return token.content.find(' ') != std::string::npos || token.normalized ||
                  token.lstrip || token.rstrip || token.single_word;
         });
}

size_t Pipeline::safe_cut(std::string_view text) const {
  return cuts_are_known_ ? last_cut_before_space(text, added_texts_) : 0;
}

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(const TokenizerSpec& spec) {
  return std::make_unique<Pipeline>(spec);
}

}  // namespace tenon
