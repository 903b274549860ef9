// SPDX-License-Identifier: Apache-2.0
// The steps of a tokenizer.json around its model: normalizer, pre_tokenizer, post_processor,
// decoder.
#pragma once

#include <string>

#include "core/json.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {

// Reads all four into the spec, whose vocabulary and added tokens are there already. Throws
// Error(kInput); what is not supported is refused by name.
void read_steps(const JsonObject& root, TokenizerSpec& spec);

// Throws "<where>: <what> <name> is not supported (supported: <supported>)".
[[noreturn]] void refuse_by_name(const std::string& where, const std::string& what,
                                 const std::string& name, const std::string& supported);

}  // namespace tenon
