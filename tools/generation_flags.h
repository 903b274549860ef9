// SPDX-License-Identifier: Apache-2.0
// What the commands that generate share: the flags of sampling, and the tokens that end a text.
#pragma once

#include <filesystem>
#include <vector>

#include "models/generate.h"
#include "text/tokenizer.h"
#include "tools/command.h"

namespace tenon {

// --max-tokens, --temperature, --top-k, --top-p, --min-p, --repetition-penalty, --seed.
void add_generation(CLI::App& app, GenerationOptions& options);

// End tokens: generation_config.json, else config.json, else the tokenizer's.
std::vector<int32_t> end_tokens(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                int64_t vocabulary);

}  // namespace tenon
