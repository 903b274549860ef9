// SPDX-License-Identifier: Apache-2.0
// GPT-2's logits in double precision and plain loops; beside the parameters' values no code is
// shared with models/.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/model.h"
#include "tests/support/bound.h"

namespace tenon::test {

struct Gpt2Logits {
  std::vector<double> logits;  // (B T, V)
  Bound bound;                 // on the error of an fp32 implementation
};

// `config` as config.json has it; of `context` the ids, positions and doc_start count.
Gpt2Logits gpt2_logits(Model& model, const nlohmann::json& config, const Context& context);

}  // namespace tenon::test
