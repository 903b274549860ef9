// SPDX-License-Identifier: Apache-2.0
// Texts continued token by token, several at a time, with the keys and values of earlier tokens
// kept.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/model.h"

namespace tenon {

// How the next token is chosen. temperature 0 is greedy (the lowest id on ties). As in
// transformers: repetition penalty, temperature, then top-k (ties with the k-th stay), then top-p
// (the smallest set whose mass is at least p), then min-p, then the draw.
struct SamplingOptions {
  double temperature = 0;
  int64_t top_k = 0;              // 0: off
  double top_p = 1;               // 1: off
  double min_p = 0;               // least share of the likeliest token's probability; 0: off
  double repetition_penalty = 1;  // on tokens of the prompt and of what was made; 1: off
  uint64_t seed = 42;
};

// The token that `logits` (V) give at `position` of the text; the draw is a function of (seed,
// sequence, position). Throws Error(kNumeric) when a logit is NaN.
int32_t choose_token(const Tensor& logits, const SamplingOptions& options, uint64_t sequence,
                     uint64_t position);

struct GenerationOptions {
  int64_t max_tokens = 128;         // most to add to a prompt
  std::vector<int32_t> end_tokens;  // end a text, and are not part of it
  SamplingOptions sampling;
  DType dtype = DType::kF32;  // of the activations
  int64_t batch = 8;          // most texts at a time; on a CPU at most 32 are
};

struct Prompt {
  std::vector<int32_t> ids;
  uint64_t sequence = 0;  // its draws' number: the same text whatever rank or batch makes it
};

enum class StopReason : uint8_t { kEndToken, kMaxTokens, kContextFull, kTold };

struct Generated {
  std::vector<int32_t> ids;  // what was added
  StopReason reason = StopReason::kMaxTokens;
};

// What is told while texts are made, on the calling thread. Texts of a batch take turns.
struct GenerationEvents {
  // Token `id` was added to prompt number `index`; false ends this text (kTold).
  std::function<bool(size_t index, int32_t id)> on_token;
  // The text is done. Not in order: short ones end first.
  std::function<void(size_t index, const Generated& text)> on_done;
};

// Continues every prompt until one of the end tokens, max_tokens, or the end of the model's positions. A
// text does not depend on what else is in the batch, nor on the number of threads; on a GPU it may
// differ in its last bits between values of options.batch. Requires: no prompt is empty or longer
// than the model's positions. Throws Error(kNumeric) when logits are NaN.
std::vector<Generated> generate_batch(const Model& model, const std::vector<Prompt>& prompts,
                                      const GenerationOptions& options,
                                      const GenerationEvents& events = {});

// Appends up to `max_tokens` tokens to `ids` (which holds the prompt), calling `on_token` after
// each; stops at a token of `end_tokens` (not appended) or where the model's positions end.
// `on_token` returns false to stop. Requires: ids is not empty and fits the model's positions.
StopReason generate(const Model& model, std::vector<int32_t>& ids, int64_t max_tokens,
                    const std::vector<int32_t>& end_tokens, const SamplingOptions& options,
                    DType dtype, uint64_t sequence,
                    const std::function<bool(int32_t)>& on_token = {});

// A cache for the model's blocks, on its device.
KvCache make_cache(const Model& model, DType dtype);

}  // namespace tenon
