// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as Hugging Face's tokenizers do it, from the files of a model
// directory.
//
// Safe to share between threads, which may encode at the same time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/marks.h"
#include "text/tokenizer/text_decoder.h"

namespace tenon {

class Tokenizer {
 public:
  // Reads `tokenizer.json`, or else `vocab.json` and `merges.txt`, or else a sentencepiece
  // `tokenizer.model`; and for the added and special tokens `tokenizer_config.json`,
  // `special_tokens_map.json`, `added_tokens.json`, `config.json` and `generation_config.json`, as
  // far as they are there (special_tokens.h). Throws Error(kInput) naming file and field, also for what is valid
  // there but not supported here.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& directory);
  virtual ~Tokenizer() = default;

  // Appends the ids of `text`. Added tokens inside it (such as "<|endoftext|>") become their ids;
  // none is put before or behind it. Bytes that are not UTF-8 are read as U+FFFD, one for each
  // maximal invalid part.
  void encode(std::string_view text, std::vector<int32_t>& out) const;
  // The same, but the names of special tokens are ordinary text.
  void encode_plain(std::string_view text, std::vector<int32_t>& out) const;
  // The same ids as encode(), but that special tokens whose names reach into a range of `plain` (in
  // order, apart) are ordinary text. Each of `spans` (the same, and none empty) becomes the range
  // of indices in `out` of the tokens that hold its bytes, those too that hold others beside. What
  // the tokenizer puts before a text belongs to its first byte, a byte that it drops to the next
  // token, and what a normalizer composes to the first byte of the composed character. `continued`:
  // as by encode_continued().
  void encode_spans(std::string_view text, bool continued, std::span<const TextRange> plain,
                    std::span<TextRange> spans, std::vector<int32_t>& out) const;
  std::vector<int32_t> encode(std::string_view text) const;
  // The ids that the tokenizer's own files put before and behind a text (BOS, EOS); often none.
  const std::vector<int32_t>& prefix() const { return prefix_; }
  const std::vector<int32_t>& suffix() const { return suffix_; }

  // Appends the ids of a text that goes on where another one ended, of which `out` holds the ids, or
  // nothing: unlike encode() and encode_plain(), it gets no space of the tokenizer's own before it
  // (Llama 2 and others put one before a text).
  void encode_continued(std::string_view text, bool special, std::vector<int32_t>& out) const;

  // The largest position at which `text` may be cut so that the ids of the first part and those of
  // the second by encode_continued(), whatever follows, are those of the whole; 0 when no position
  // is known to be safe.
  virtual size_t safe_cut(std::string_view text) const = 0;

  // The text of the ids; what is not UTF-8 becomes U+FFFD. Ids outside the vocabulary are passed
  // over.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;
  // The bytes that one token stands for, perhaps a part of a character; "" for an id outside the
  // vocabulary.
  virtual std::string_view bytes(int32_t id) const = 0;
  // Decodes token by token; takes ids of the vocabulary only. The tokenizer must outlive it.
  virtual std::unique_ptr<TextDecoder> start_decoding() const;

  // The token as the vocabulary spells it, or nothing when no token has this id.
  std::optional<std::string_view> token(int32_t id) const;
  bool is_special(int32_t id) const;
  // Whether it is looked for in a text as a whole, special or not.
  bool is_added(int32_t id) const;

  int64_t vocabulary_size() const {
    return static_cast<int64_t>(tokens_.size());
  }                                                       // 1 + the largest id
  std::optional<int32_t> eos_id() const { return eos_; }  // ends a document
  std::optional<int32_t> bos_id() const { return bos_; }
  // Identifies the tokenizer: a hash of the files that it was read from and of the two ids above.
  uint64_t fingerprint() const { return fingerprint_; }
  // The file that the vocabulary came from, for the log.
  const std::string& file() const { return file_; }
  // What a person should know of the tokenizer's files, such as a special token that they name and
  // give no id; "": nothing.
  const std::string& note() const { return note_; }

 protected:
  // What the functions above do. Marks become the indices of the tokens that hold the bytes at them,
  // out.size() where none does. Marks and ranges, none of them empty, lie in `text`, which is valid
  // UTF-8; `continued`: it goes on where `out` ends.
  virtual void encode_text(std::string_view text, bool continued, std::span<const TextRange> plain,
                           Marks marks, std::vector<int32_t>& out) const = 0;

  struct Token {
    std::string text;
    bool present = false;  // ids may leave gaps
    bool special = false;
    bool added = false;
  };
  std::vector<Token> tokens_;  // by id
  std::optional<int32_t> eos_, bos_;
  std::vector<int32_t> prefix_, suffix_;
  uint64_t fingerprint_ = 0;
  std::string file_, note_;

 private:
  void encode_repaired(std::string_view text, bool continued, std::span<const TextRange> plain,
                       Marks marks, std::vector<int32_t>& out) const;
};

// Decodes ids as they come, and never gives out half a character: the pieces joined are decode() of
// all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(tokenizer), skip_special_(skip_special), decoder_(tokenizer.start_decoding()) {}
  // The text that is complete with this id; often "", inside a character of several tokens.
  std::string push(int32_t id);
  // What is left at the end, such as U+FFFD for a character that was never finished. The next id
  // begins a new text.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::unique_ptr<TextDecoder> decoder_;
};

}  // namespace tenon
