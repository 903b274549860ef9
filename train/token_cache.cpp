// SPDX-License-Identifier: Apache-2.0
#include "train/token_cache.h"

#include "text/data/sources.h"

namespace tenon {

namespace fs = std::filesystem;

TokenCache::~TokenCache() {
  std::error_code ignored;
  for (const Fresh& fresh : fresh_) fs::remove(fresh.made, ignored);
}

TokenFile TokenCache::open(const std::string& name, const std::vector<fs::path>& sources,
                           const Tokenizer& tokenizer, const TokenizeOptions& options) {
  const fs::path place = folder_.cache(name);
  fs::create_directories(place.parent_path());
  if (!resumes_) return build_or_open(place, sources, tokenizer, options);
  if (const auto there = open_made_from(place, sources, tokenizer, options)) return *there;
  fresh_.push_back({folder_.cache(name + ".new"), place});
  return build_or_open(fresh_.back().made, sources, tokenizer, options);
}

void TokenCache::keep() {
  // Where ranks share the folder, the first of them has moved the file for all.
  std::error_code gone;
  for (const Fresh& fresh : fresh_) fs::rename(fresh.made, fresh.place, gone);
  fresh_.clear();
}

}  // namespace tenon
