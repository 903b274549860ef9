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

// Fills the document's pieces. Throws Error(kInput) that begins with `place`.
void write_chat(const Conversation& chat, const DocumentOptions& options, const std::string& place,
                Document& document);

}  // namespace tenon
