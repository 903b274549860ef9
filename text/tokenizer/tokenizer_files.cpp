// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer_files.h"

#include "core/files.h"

namespace tenon {

namespace fs = std::filesystem;

std::vector<fs::path> tokenizer_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const char* name :
       {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json"}) {
    if (files::exists(folder / name)) files.push_back(folder / name);
  }
  return files;
}

}  // namespace tenon
