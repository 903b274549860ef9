// SPDX-License-Identifier: Apache-2.0
// The files of a model folder that a tokenizer is read from: whoever watches, copies or hashes them
// asks here.
#pragma once

#include <filesystem>
#include <vector>

namespace tenon {

// Those that are there of tokenizer.json, vocab.json, merges.txt, tokenizer.model,
// tokenizer_config.json, special_tokens_map.json and added_tokens.json, in this order. config.json
// and generation_config.json, which belong to the model, are none of them.
std::vector<std::filesystem::path> tokenizer_files(const std::filesystem::path& folder);

}  // namespace tenon
