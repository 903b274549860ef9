// SPDX-License-Identifier: Apache-2.0
// GPT-2's kind of tokenizer: byte pair encoding over bytes, after a split into words. Its
// vocabulary spells each byte as a printable character, so that 256 tokens cover every text.
#pragma once

#include <memory>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {

std::unique_ptr<Tokenizer> make_byte_level_bpe(const TokenizerSpec& spec);

}  // namespace tenon
