// SPDX-License-Identifier: Apache-2.0
// The tokens of a run's data, kept in the run folder. A run that is to be gone on with keeps what it
// has until it is known to be the same run: what is made anew stands beside it so long.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "text/data/token_file.h"
#include "train/run_folder.h"

namespace tenon {

class TokenCache {
 public:
  TokenCache(const RunFolder& folder, bool resumes) : folder_(folder), resumes_(resumes) {}
  ~TokenCache();
  TokenCache(const TokenCache&) = delete;
  TokenCache& operator=(const TokenCache&) = delete;

  // The token file `name` of these files: the one that is there where it was made from the same,
  // else a new one.
  TokenFile open(const std::string& name, const std::vector<std::filesystem::path>& sources,
                 const Tokenizer& tokenizer, const TokenizeOptions& options);
  // Puts what was made anew into its place.
  void keep();

 private:
  struct Fresh {
    std::filesystem::path made, place;
  };
  const RunFolder& folder_;
  bool resumes_;
  std::vector<Fresh> fresh_;
};

}  // namespace tenon
