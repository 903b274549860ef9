// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include "core/error.h"

namespace tenon {

TokenizeOptions tokenize_options(const DataOptions& options, const std::filesystem::path&) {
  TokenizeOptions result;
  DocumentOptions& documents = result.documents;
  documents.format = options.format;
  documents.columns = options.columns;
  documents.system = options.system;
  documents.skip_bad = options.skip_bad;
  documents.train_on = options.train_on == "last"         ? TrainOn::kLast
                       : options.train_on == "everything" ? TrainOn::kEverything
                                                          : TrainOn::kAll;
  return result;
}

Overlong overlong_mode(const std::string& word) {
  return word == "drop" ? Overlong::kDrop : word == "error" ? Overlong::kError : Overlong::kCut;
}

}  // namespace tenon
