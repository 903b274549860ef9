// SPDX-License-Identifier: Apache-2.0
// Token files: texts, tokenized once and mapped by every rank. A file holds the ids of all
// documents one after the other, where each document begins and whether it is a sample (a prompt
// and its answer), and which tokens are not to be predicted (prompts).
//
// Layout, little-endian: a header of 64 bytes (magic, version, bytes an id, the key); the ids,
// padded to 8 bytes; the document bounds (documents + 1 of 8 bytes: twice the position, plus one
// where the document that ends there is a sample); the spans without score (pairs of 8 bytes); the
// special tokens and their counts (the same); a footer of 64 bytes (counts, XXH3-64 of all before
// the footer, magic). The counts stand last so
// that writing is one pass over any amount of text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "text/data/documents.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon {

struct TokenizeOptions {
  bool append_eos =
      true;  // ends each document with the tokenizer's end-of-text token, where it has one
  // Bytes of a .txt that are tokenized at a time; more where no safe cut lies within. The ids do
  // not depend on it.
  int64_t chunk_bytes = 1 << 20;
  bool lines = false;  // each line of a .txt is a document
  // Names of special tokens in what people wrote of a conversation are ordinary text, not the tokens
  // as in transformers' apply_chat_template.
  bool plain_people = false;
  DocumentOptions documents;
  // Of the text of documents.chat_template, and of what it is told beside the messages.
  uint64_t template_fingerprint = 0;
};

// What a token file was made from: it is used again only for the same.
struct TokenFileKey {
  uint64_t tokenizer = 0;  // Tokenizer::fingerprint()
  uint64_t sources = 0;    // paths, sizes, times and content samples
  uint64_t options = 0;
  bool operator==(const TokenFileKey&) const = default;
};

// Tokens [begin, end) of a file.
struct TokenSpan {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// How often a special token stands in the sources' text, where it has a meaning that may not be
// meant.
struct SpecialCount {
  int64_t id, count;
};

struct DocumentSpan : TokenSpan {
  bool sample = false;
};

// Whether the file begins as a token file does. Throws Error(kInput) where it cannot be read.
bool is_token_file(const std::filesystem::path& path);

// Copying a TokenFile shares the mapping. Safe to share between threads.
class TokenFile {
 public:
  // Maps the file and checks all of it in one pass: not the checksum alone, which says only that a
  // file is as somebody wrote it, but that every count, id, bound and span leads nowhere outside.
  // Each rank does so with what it maps. Throws Error(kInput) naming the byte that is wrong.
  static TokenFile open(const std::filesystem::path& path);

  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(bounds_.size()) - 1; }
  DocumentSpan document(int64_t index) const {
    return {{bounds_[index] >> 1, bounds_[index + 1] >> 1}, (bounds_[index + 1] & 1) != 0};
  }
  int32_t id(int64_t position) const;
  // Copies ids [begin, begin + out.size()).
  void copy_ids(int64_t begin, std::span<int32_t> out) const;

  // Whether the token is one that the model is to predict.
  bool scored(int64_t position) const { return unscored_in({position, position + 1}) == 0; }
  // How many of the tokens in the span are not.
  int64_t unscored_in(TokenSpan span) const;
  int64_t scored_tokens() const { return tokens_ - unscored_in({0, tokens_}); }
  int32_t largest_id() const { return largest_id_; }  // to be checked against the model's rows
  // By id; what was put around documents is not counted.
  std::map<int32_t, int64_t> special_tokens() const;
  // Records of the sources that could not be read and were passed over.
  int64_t skipped_records() const { return skipped_records_; }
  // What the assistant says and the chat template left out: it is not there to be learnt.
  int64_t unwritten_turns() const { return unwritten_turns_; }

  const TokenFileKey& key() const { return key_; }
  // Of the ids, the documents and what is scored of them: the same whatever the file is called and
  // was made from.
  uint64_t digest() const;
  const std::filesystem::path& path() const { return mapping_->path(); }
  // How messages name it: by its path, or as it is called by who knows what a user gave.
  std::string name() const;
  void call(const std::string& name) { called_ = name; }

 private:
  std::shared_ptr<const MappedFile> mapping_;
  const std::byte* ids_ = nullptr;
  int id_bytes_ = 0;
  int64_t tokens_ = 0;
  int32_t largest_id_ = 0;
  int64_t skipped_records_ = 0, unwritten_turns_ = 0;
  std::span<const int64_t> bounds_;      // as they lie in the file
  std::span<const TokenSpan> unscored_;  // ascending, apart from each other
  std::span<const SpecialCount> special_;
  std::vector<int64_t> unscored_before_;  // tokens without score before each of them, and in all
  TokenFileKey key_;
  std::string called_;
};

// Writes a token file beside `path` and puts it there at commit(). Memory grows with documents, not
// with tokens.
class TokenFileWriter {
 public:
  // Ids take two bytes when the vocabulary allows, else four.
  TokenFileWriter(const std::filesystem::path& path, const TokenFileKey& key,
                  int64_t vocabulary_size);
  // Goes on with the current document.
  void append(std::span<const int32_t> ids, bool scored);
  // Ends the current document; nothing happens when it has no token.
  void end_document(bool sample = false);
  void add_skipped(int64_t records) { skipped_records_ += records; }
  void add_unwritten(int64_t turns) { unwritten_turns_ += turns; }
  void add_special(int32_t id, int64_t count) { special_[id] += count; }
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(bounds_.size()) - 1; }
  const std::map<int32_t, int64_t>& special_tokens() const { return special_; }
  void commit();

 private:
  void flush();

  AtomicFile file_;
  int id_bytes_;
  int64_t tokens_ = 0;
  int32_t largest_id_ = 0;
  int64_t skipped_records_ = 0, unwritten_turns_ = 0;
  std::vector<int64_t> bounds_ = {0};  // as they will lie in the file
  std::vector<TokenSpan> unscored_;
  std::map<int32_t, int64_t> special_;
  std::vector<std::byte> buffer_;  // ids that are not yet written
};

// The token file of `sources` (see text/data/documents.h), in order: the one at `cache` when
// it is whole and was made from the same, else a new one that is put there. `made` (if not null)
// tells which. Throws Error(kInput) with file, line and column for what a source should not hold,
// and for sources without a token. A single source may be a token file itself (of `tenon
// tokenize`): it is opened, if this tokenizer has made it.
TokenFile build_or_open(const std::filesystem::path& cache,
                        std::span<const std::filesystem::path> sources, const Tokenizer& tokenizer,
                        const TokenizeOptions& options = {}, bool* made = nullptr);

}  // namespace tenon
