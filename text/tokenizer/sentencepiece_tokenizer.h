// SPDX-License-Identifier: Apache-2.0
// The tokenizers of sentencepiece's `tokenizer.model` (Llama 1 and 2, TinyLlama, OpenLLaMA,
// Mistral): BPE and unigram, by libsentencepiece; and around it the special tokens, as Hugging
// Face's Llama tokenizer recognises them in a text.
#pragma once

#include <memory>

#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {

// Requires: spec.sentencepiece. Throws Error(kInput) when the library does not take the model.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const TokenizerSpec& spec);

}  // namespace tenon
