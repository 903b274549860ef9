// SPDX-License-Identifier: Apache-2.0
// What lies beside the weights in a folder of a model or adapter, so that whoever has the folder
// alone writes prompts and ends answers as it was trained.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/chat/template_source.h"

namespace tenon {

// The files of a model folder that are read beside its weights: config.json,
// generation_config.json, and those of the tokenizer and the chat template.
std::vector<std::filesystem::path> model_files(const std::filesystem::path& folder);

// Copies files below `from` to the same places below `to` (created), byte for byte.
void copy_files(const std::vector<std::filesystem::path>& files, const std::filesystem::path& from,
                const std::filesystem::path& to);

// How prompts are written and answers end.
struct Manner {
  std::optional<TemplateSource> chat;  // nothing: no conversations
  bool given = false;                  // by name or file, and not the model's own
  std::optional<int32_t> end_of_turn;  // the token with which the template ends an answer
};

// What a model of this base needs: its files, but with the manner's template and end of turn.
void write_model_files(const std::filesystem::path& base, const Manner& manner,
                       const std::filesystem::path& folder);
// The same for an adapter, which stays beside its base: no config.json.
void write_adapter_files(const std::filesystem::path& base, const Manner& manner,
                         const std::filesystem::path& folder);

}  // namespace tenon
