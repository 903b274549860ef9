// SPDX-License-Identifier: Apache-2.0
#include "tools/generation_flags.h"

#include <limits>

#include "core/json.h"

namespace tenon {

void add_generation(CLI::App& app, GenerationOptions& options) {
  SamplingOptions& sampling = options.sampling;
  add_number<int64_t>(app, "--max-tokens", options.max_tokens, 1, 1 << 24, "Most tokens to add");
  add_number<double>(app, "--temperature", sampling.temperature, 0, 100, "0: greedy");
  add_number<int64_t>(app, "--top-k", sampling.top_k, 0, 1 << 24, "Only the k likeliest (0: off)");
  add_number<double>(app, "--top-p", sampling.top_p, 0, 1,
                     "Only the likeliest with this mass (1: off)");
  add_number<double>(app, "--min-p", sampling.min_p, 0, 1,
                     "Only what is at least so likely, beside the likeliest (0: off)");
  add_number<double>(app, "--repetition-penalty", sampling.repetition_penalty, 0.01, 100,
                     "Above 1: against tokens that stand in the text already (1: off)");
  add_number<uint64_t>(app, "--seed", sampling.seed, 0, std::numeric_limits<int64_t>::max(),
                       "Seed of the draws");
}

std::vector<int32_t> end_tokens(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                int64_t vocabulary) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!std::filesystem::exists(folder / name)) continue;
    const std::vector<int64_t> ids =
        JsonObject::read(folder / name).integers("eos_token_id", 0, vocabulary - 1);
    if (!ids.empty()) return {ids.begin(), ids.end()};
  }
  return tokenizer.eos_id() ? std::vector<int32_t>{*tokenizer.eos_id()} : std::vector<int32_t>{};
}

}  // namespace tenon
