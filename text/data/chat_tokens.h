// SPDX-License-Identifier: Apache-2.0
// A conversation as ids: what a model is asked with, by the way on which conversations are trained
// (document_tokens.h), so that it reads them as it learnt them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "text/chat/chat_template.h"
#include "text/data/document_tokens.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon {

// The ids of what the template writes, as transformers' apply_chat_template has them; in `runs` what
// the assistant says is scored. `extra`: tools and other variables, or null. With `plain_people`
// names of special tokens in what people wrote are ordinary text. Throws Error(kInput) with what the
// template raised.
DocumentTokens chat_tokens(const nlohmann::ordered_json& messages,
                           const nlohmann::ordered_json& extra, const ChatTemplate& chat,
                           const Tokenizer& tokenizer, bool add_generation_prompt,
                           bool plain_people);

}  // namespace tenon
