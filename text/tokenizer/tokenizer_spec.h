// SPDX-License-Identifier: Apache-2.0
// What the files of a model directory say of its tokenizer, checked and in one form. The kinds of
// tokenizer are built from it; what none of them supports is refused here by name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/json.h"
#include "text/tokenizer/added_tokens.h"
#include "text/tokenizer/normalize.h"
#include "text/tokenizer/pre_tokenize.h"
#include "text/tokenizer/text_decoder.h"

namespace tenon {

struct SentencePieceModel;

struct TokenizerSpec {
  struct Merge {
    int32_t left, right, merged;
  };

  std::string file;                                     // where the vocabulary is, for messages
  std::unordered_map<std::string, int32_t> vocabulary;  // of the model, added tokens apart
  std::vector<const std::string*> by_id;                // its keys; null where no token has the id
  std::vector<Merge> merges;                            // by rank
  std::optional<int32_t> unknown;  // stands for a character that the vocabulary lacks
  bool fuse_unknown = false;       // one for several in a row
  bool byte_fallback = false;  // its bytes as "<0x0A>" stand for it, where all of them are known
  bool ignore_merges = false;  // a word that is a token is that token
  std::vector<AddedToken> added;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<DecoderStep> decoder;
  std::vector<int32_t> prefix, suffix;  // what is put around a text
  std::optional<int32_t> eos, bos;
  uint64_t fingerprint = 0;
  std::string note;  // what a person should know of the files; "": nothing

  // GPT-2's kind of tokenizer (byte_level_bpe.h), where the steps amount to it.
  bool byte_level = false;
  std::vector<SplitSpec> splits;  // in order, before the ByteLevel step
  bool add_prefix_space = false;  // ByteLevel: a text that begins with no space gets one
  bool gpt2_pattern = true;       // ByteLevel: cuts by GPT-2's pattern

  // A sentencepiece model in the place of merges and steps; null otherwise.
  std::shared_ptr<const SentencePieceModel> sentencepiece;
  bool legacy = false;  // sentencepiece: a space is put before the text behind a special token too

  // The id of a token, and whether there is a token of this id; added ones included.
  std::optional<int32_t> id_of(const std::string& token) const;
  bool has_id(int64_t id) const;

  TokenizerSpec() = default;
  TokenizerSpec(TokenizerSpec&&) = default;  // not copied: by_id looks into vocabulary

  // Where an added token lies in `added`, by its content and by its id.
  std::unordered_map<std::string, size_t> added_by_content;
  std::unordered_map<int32_t, size_t> added_by_id;
};

// Larger than any vocabulary in use; a table of this many entries is still small.
inline constexpr int64_t kMaxTokenId = (1 << 21) - 1;

// Reads a model directory. Throws Error(kInput).
TokenizerSpec read_tokenizer_spec(const std::filesystem::path& directory);

// The forms in which a vocabulary comes; each fills what it has a field for.
void read_tokenizer_json(const std::filesystem::path& path, TokenizerSpec& spec);
void read_sentencepiece(const std::filesystem::path& path, TokenizerSpec& spec);
void read_vocabulary_and_merges(const std::filesystem::path& vocabulary,
                                const std::filesystem::path& merges, TokenizerSpec& spec);

// Takes {token: id, ...} as the model's vocabulary. `where` and `prefix` name file and field in
// messages.
void add_vocabulary(const Json& object, const std::string& where, const std::string& prefix,
                    TokenizerSpec& spec);
// Appends the merge of two tokens, or returns that one of the three which is not in the vocabulary.
std::optional<std::string> add_merge(const std::string& left, const std::string& right,
                                     TokenizerSpec& spec);
// Appends an added token; of one that is there already the later word on how it is looked for
// counts, and it is special where either says so. Throws Error(kInput) when its content or id is not
// usable. `place` begins the message.
void add_token(const AddedToken& token, const std::string& place, TokenizerSpec& spec);

}  // namespace tenon
