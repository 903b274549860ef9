// SPDX-License-Identifier: Apache-2.0
// A conversation as the document that it is trained as: written by the chat template, with what the
// assistant is to learn apart.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/data/documents.h"

namespace tenon {

// A record as a conversation, and which of its messages are given: nothing of them is to be learnt,
// whoever says them.
struct Conversation {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array(), extra;
  std::vector<bool> given;  // as many as messages; empty: none is given
};

// Appends the written text's bytes [begin, end) in pieces, cut where what is scored (`spans`) or what
// people wrote begins or ends. A turn of the assistant before which the text ends in a space ("Answer: ")
// stands apart, scored or not: the model is asked with that space, and "yes" is no " yes" behind it.
void add_pieces(const WrittenChat& written, const std::vector<ChatSpan>& spans, size_t begin,
                size_t end, Document& document);

// Fills the document's pieces, which are one text: what is scored of what the assistant says in
// turns that are not given (see WrittenChat), as `options.train_on` has it: in all of them, in the
// last of them that has a span, or everything, for which no span is needed; and what people wrote.
// Throws Error(kInput) that begins with `place`.
void write_chat(const Conversation& chat, const DocumentOptions& options, const std::string& place,
                Document& document);

}  // namespace tenon
