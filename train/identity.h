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

// The flags that all ranks must be given alike: not paths, which may differ where contents do not,
// nor what a rank's own machine decides.
Facts flags_of(const TrainOptions& options);

// Contents of model, tokenizer (its fingerprint) and data, by name: paths and times do not count.
Facts contents_of(const TrainOptions& options, uint64_t tokenizer);

// The contents and every resolved option that changes what is computed, as "name=value" lines.
std::string identity_text(const TrainOptions& resolved, const Facts& contents);

// Throws Error(kEnvironment) naming both values of each difference.
void check_identity(const std::string& mine, const std::string& theirs,
                    const std::filesystem::path& checkpoint);

}  // namespace tenon
