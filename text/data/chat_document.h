// SPDX-License-Identifier: Apache-2.0
// A conversation as the document that it is trained as: written by the chat template, with what the
// assistant is to learn apart.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "text/data/documents.h"

namespace tenon {

// A record as a conversation: what was said before, and of which message on the assistant's turns
// are to be learnt.
struct Conversation {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array(), extra;
  size_t from = 0;  // messages before it are given, whoever says them
};

// Fills the document's pieces. Throws Error(kInput) that begins with `place`.
void write_chat(const Conversation& chat, const DocumentOptions& options, const std::string& place,
                Document& document);

}  // namespace tenon
