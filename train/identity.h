// SPDX-License-Identifier: Apache-2.0
// What makes two runs the same run: the ranks of a job must agree in it, and a checkpoint is gone
// on with only where it is what it was.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "train/options.h"

namespace tenon {

// Named values, in an order.
using Facts = std::vector<std::pair<std::string, std::string>>;

// What was read, by content: paths and times do not count.
struct Contents {
  Facts facts;    // model, adapter and tokens: they decide
  Facts sources;  // what the tokens came of: why they differ, where they do

  Facts all() const;
};

// What the contents are taken from beside the files that the options name.
struct TokenDigests {
  uint64_t tokenizer = 0;  // its fingerprint
  std::string train = "none", validation = "none";
};

// The flags that all ranks must be given alike.
Facts flags_of(const TrainOptions& options);

Contents contents_of(const TrainOptions& options, const TokenDigests& tokens);

// The contents, every resolved option that changes what is computed, and the length of the run in
// steps, as "name=value" lines; what only explains begins with "?".
std::string identity_text(const TrainOptions& resolved, const Contents& contents, int64_t steps);

// The identity under which a run goes on from a checkpoint of the identity `theirs`, which stands at
// `step`: `mine`, but where a constant schedule is made longer its warm-up stays as it was. Throws
// Error(kEnvironment) naming both values of each difference, and why a longer run is another one.
std::string resumed_identity(const std::string& mine, const std::string& theirs,
                             const std::filesystem::path& checkpoint, int64_t step);

// The steps of the warm-up that an identity states.
int64_t stated_warmup(const std::string& identity);

}  // namespace tenon
