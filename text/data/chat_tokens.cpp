// SPDX-License-Identifier: Apache-2.0
#include "text/data/chat_tokens.h"

#include <nlohmann/json.hpp>

#include "text/data/chat_document.h"

namespace tenon {

DocumentTokens chat_tokens(const nlohmann::ordered_json& messages,
                           const nlohmann::ordered_json& extra, const ChatTemplate& chat,
                           const Tokenizer& tokenizer, bool add_generation_prompt,
                           bool plain_people) {
  const WrittenChat written = chat.write_with_spans(messages, extra, add_generation_prompt);
  Document document;
  document.whole = true;
  document.framed = false;
  add_pieces(written, written.turns, 0, written.text.size(), document);
  DocumentTokens tokens;
  tokenize_document(document, tokenizer, Framing::kNone, tokens, plain_people);
  return tokens;
}

}  // namespace tenon
