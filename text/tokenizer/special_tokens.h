// SPDX-License-Identifier: Apache-2.0
// The special tokens of a model folder, as transformers gathers them: from the files beside the
// vocabulary, and from what the tokenizer's class has where these name none.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "text/tokenizer/added_tokens.h"

namespace tenon {

// The files beside the vocabulary that speak of tokens, as far as they are there.
struct SideFiles {
  std::optional<JsonObject> tokenizer_config, special_tokens_map, added_tokens, config,
      generation_config;
  bool vocab_merges = false;  // the vocabulary is that of GPT2Tokenizer: vocab.json, merges.txt

  static SideFiles read(const std::filesystem::path& folder);
  // Whether tokenizer_config.json lists the added tokens: then special_tokens_map.json and
  // added_tokens.json are not read.
  bool lists_tokens() const;
};

// What a name such as "bos_token" stands for: the token, without an id, and the place that says so.
struct NamedToken {
  std::string name;
  AddedToken token;
  std::string place;
  bool of_class = false;  // no file says so: the tokenizer's class has it
};

// The tokens of the seven names (bos_token, eos_token, unk_token, sep_token, pad_token, cls_token,
// mask_token) that the files give, or else the class of the tokenizer: tokenizer_config.json's or
// config.json's `tokenizer_class`, or that of the model's type, or of the vocabulary's files. A name
// that the files set to null, or that such a class lacks, has none, which an empty content says.
// Throws Error(kInput) with file and field.
std::vector<NamedToken> named_tokens(const SideFiles& files);
// Those that the files name beside: additional_special_tokens and extra_special_tokens.
std::vector<NamedToken> further_tokens(const SideFiles& files);
// Those that tokenizer_config.json's `added_tokens_decoder`, or else added_tokens.json, gives ids.
std::vector<NamedToken> listed_tokens(const SideFiles& files);

// The variables of a chat template: the seven names with the texts of their tokens. Where neither
// files nor class have a beginning or an end, those that the tokenizer takes.
std::vector<std::pair<std::string, std::string>> special_token_texts(
    const std::filesystem::path& folder);

}  // namespace tenon
