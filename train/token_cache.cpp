// SPDX-License-Identifier: Apache-2.0
#include "train/token_cache.h"

#include "core/error.h"
#include "core/files.h"
#include "text/data/sources.h"

namespace tenon {

namespace fs = std::filesystem;

TokenCache::~TokenCache() {
  for (const Fresh& fresh : fresh_) files::discard_tree(fresh.made);
}

TokenFile TokenCache::open(const std::string& name, const std::vector<fs::path>& sources,
                           const Tokenizer& tokenizer, const TokenizeOptions& options) {
  const fs::path place = folder_.cache(name);
  files::make_folders(place.parent_path());
  if (!resumes_) return build_or_open(place, sources, tokenizer, options);
  if (const auto there = open_made_from(place, sources, tokenizer, options)) return *there;
  fresh_.push_back({folder_.cache(name + ".new"), place});
  return build_or_open(fresh_.back().made, sources, tokenizer, options);
}

void TokenCache::keep() {
  for (const Fresh& fresh : fresh_) {
    try {
      files::rename(fresh.made, fresh.place);
    } catch (const Error&) {
      // Where ranks share the folder, the first of them has moved the file for all.
      if (files::exists(fresh.made)) throw;
    }
  }
  fresh_.clear();
}

}  // namespace tenon
