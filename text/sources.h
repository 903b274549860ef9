// SPDX-License-Identifier: Apache-2.0
// The files that people train on, as documents of tokens. A .txt is one document, or several where
// the end-of-text token ("<|endoftext|>") stands between them; of every other kind each record is
// one (documents.h). Each document ends with the end-of-text token.
#pragma once

#include <filesystem>
#include <span>

#include "text/token_file.h"

namespace tenon {

// Appends the documents of one source. A .txt is tokenized in chunks, so that it may be larger than
// memory. Throws Error(kInput) with file, line and column.
void tokenize_source(const std::filesystem::path& source, const Tokenizer& tokenizer,
                     const TokenizeOptions& options, TokenFileWriter& writer);

// Throws Error(kInput) for a source that is missing or cannot be read.
TokenFileKey token_file_key(std::span<const std::filesystem::path> sources,
                            const Tokenizer& tokenizer, const TokenizeOptions& options);

}  // namespace tenon
