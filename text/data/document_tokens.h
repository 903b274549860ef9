// SPDX-License-Identifier: Apache-2.0
// A document as a model reads it. Pieces that are one text (a conversation as a chat template writes
// it) are tokenized as one, as transformers' apply_chat_template does, and a token is scored where any
// of its bytes are; pieces that stand apart go on where the one before ends. Other pieces are
// tokenized each by itself, so that what is given stands there as it will when the model is asked.
#pragma once

#include <cstdint>
#include <vector>

#include "text/data/documents.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon {

struct TokenRun {
  int64_t count;
  bool scored;
};

struct DocumentTokens {
  std::vector<int32_t> ids;
  std::vector<TokenRun> runs;  // in order; together all ids
  bool sample = false;
  int64_t front = 0, back = 0;  // how many of the ids the framing has put there
  std::vector<int32_t> named;   // special tokens that people's text named, in a whole document
};

// What stands around the ids of a framed document; none of it twice.
enum class Framing {
  kNone,
  kPrefix,    // the tokenizer's prefix(); nothing where the document has no text
  kDocument,  // prefix() and the end-of-text token, which is scored; the same
  kPrompt,    // prefix() and suffix()
};

// `plain_people`: names of special tokens in what people wrote are ordinary text.
void tokenize_document(const Document& document, const Tokenizer& tokenizer, Framing framing,
                       DocumentTokens& tokens, bool plain_people = false);

}  // namespace tenon
