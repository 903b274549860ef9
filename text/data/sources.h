// SPDX-License-Identifier: Apache-2.0
// The files that people train on, as documents of tokens. A .txt is one document, or several where
// the end-of-text token ("<|endoftext|>") stands between them; of every other kind each record is
// one (documents.h). Each document ends with the end-of-text token.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "text/data/encode_data.h"
#include "text/data/token_file.h"

namespace tenon {

// What stands around the documents of a token file.
Framing training_framing(const TokenizeOptions& options);

// Appends what encode_data() gives to a token file.
class TokenAppender {
 public:
  TokenAppender(const Tokenizer& tokenizer, const TokenizeOptions& options,
                TokenFileWriter& writer);
  void take(const EncodedPart& part);

 private:
  Joiner joiner_;
  TokenFileWriter& writer_;
};

// Throws Error(kInput) for a source that is missing or cannot be read.
TokenFileKey token_file_key(std::span<const std::filesystem::path> sources,
                            const Tokenizer& tokenizer, const TokenizeOptions& options);

// The token file at `cache`, or a single source that is a token file itself, where it is whole and
// was made from the same; else nothing.
std::optional<TokenFile> open_made_from(const std::filesystem::path& cache,
                                        std::span<const std::filesystem::path> sources,
                                        const Tokenizer& tokenizer, const TokenizeOptions& options);

// Where document `number` (from 0) of the token file of these sources stands: "file:line" of a
// record, or the file. Reads them anew: for messages.
std::string document_place(std::span<const std::filesystem::path> sources,
                           const Tokenizer& tokenizer, const TokenizeOptions& options,
                           int64_t number);

// Commits the token file that `key` was taken for. Throws Error(kInput) where it has no token, and
// where the sources have changed since.
void finish_token_file(std::span<const std::filesystem::path> sources, const Tokenizer& tokenizer,
                       const TokenizeOptions& options, const TokenFileKey& key,
                       TokenFileWriter& writer);

// "<|endoftext|> x 12, <|pad|> x 1".
std::string special_tokens_text(const Tokenizer& tokenizer,
                                const std::map<int32_t, int64_t>& counts);

}  // namespace tenon
