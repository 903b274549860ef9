// SPDX-License-Identifier: Apache-2.0
// Any tokenizer.json with a BPE model, step by step: added tokens, normalizer, pre-tokenizer, byte
// pair encoding of characters with byte fallback, and the decoder's steps back. GPT-2's kind has a
// faster way of its own (byte_level_bpe.h).
#pragma once

#include <memory>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {

// Throws Error(kInput) for a pattern that cannot be used.
std::unique_ptr<Tokenizer> make_pipeline_tokenizer(const TokenizerSpec& spec);

}  // namespace tenon
