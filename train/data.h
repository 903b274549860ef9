// SPDX-License-Identifier: Apache-2.0
// How the options about data become what text/ is told, for every command that reads data.
#pragma once

#include <filesystem>

#include "text/packing.h"
#include "train/options.h"

namespace tenon {

// With the chat template that the options name, or the one of the model folder. Throws Error(kInput)
// where it cannot be read.
TokenizeOptions tokenize_options(const DataOptions& options, const std::filesystem::path& model);

Overlong overlong_mode(const std::string& word);

}  // namespace tenon
