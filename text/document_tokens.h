// SPDX-License-Identifier: Apache-2.0
// A document as a model reads it: its pieces' ids, each piece tokenized by itself, so that what is
// given stands there as it will when the model is asked.
#pragma once

#include <cstdint>
#include <vector>

#include "text/documents.h"
#include "text/tokenizer.h"

namespace tenon {

struct TokenRun {
  int64_t count;
  bool scored;
};

struct DocumentTokens {
  std::vector<int32_t> ids;
  std::vector<TokenRun> runs;  // in order; together all ids
  bool sample = false;
};

// The ids of a framed document stand between the tokenizer's prefix() and its end-of-text token
// (scored; with `append_eos` only), neither of them twice. Empty where the document has no text.
void tokenize_document(const Document& document, const Tokenizer& tokenizer, bool append_eos,
                       DocumentTokens& tokens);

}  // namespace tenon
