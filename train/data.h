// SPDX-License-Identifier: Apache-2.0
// How the options about data become what text/ is told, for every command that reads data; and what
// a person is shown of it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "text/data/packing.h"
#include "train/options.h"

namespace tenon {

// With the chat template that the options name, or else the one of the model folder. Throws
// Error(kInput) where it cannot be read.
TokenizeOptions tokenize_options(const DataOptions& options, const std::filesystem::path& model);

// Identifies what the chat template is made from: its text or name, the model's special tokens, the
// date if one is given.
uint64_t template_fingerprint(const DataOptions& options, const std::filesystem::path& model);

Overlong overlong_mode(const std::string& word);

// What the files hold, by their first records: "alpaca (instruction, input, output) in .json, ...";
// then describe_unread().
std::string describe_data(const std::vector<std::string>& files, const TokenizeOptions& options);

// "fields not read: id, source" where the first records have such fields; else "".
std::string describe_unread(const std::vector<std::string>& files, const TokenizeOptions& options);

// A document as the model is trained on it, special tokens included, with what is scored set apart:
// in green behind dim text, or with `colour` off between "[[" and "]]". Long stretches are shown by
// their ends; control characters are escaped.
std::string sample_text(const TokenFile& file, const DocumentSpan& document,
                        const Tokenizer& tokenizer, bool colour);

}  // namespace tenon
