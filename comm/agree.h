// SPDX-License-Identifier: Apache-2.0
// The agreement at the start: every rank must run the same build on the same model, data and flags.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"

namespace tenon {

// A collective call. Each rank gives named facts (build, flags, model, data, ...); where they
// differ, all ranks throw Error(kEnvironment): rank 0 with one line that names each differing fact
// and its values by groups of ranks, "ranks disagree: data: ranks 0-2: 1a2b, rank 3: 9f0c", the
// others with an empty message, which means that another rank reports (World::abort knows).
void check_agreement(Communicator& world,
                     const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace tenon
