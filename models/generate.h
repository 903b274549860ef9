// SPDX-License-Identifier: Apache-2.0
// Text continued token by token, with the keys and values of earlier tokens kept.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/model.h"

namespace tenon {

// How the next token is chosen. temperature 0 is greedy (the lowest id on ties). As in
// transformers: temperature, then top-k (ties with the k-th stay), then top-p (the smallest set
// whose mass is at least p), then the draw.
struct SamplingOptions {
  double temperature = 0;
  int64_t top_k = 0;  // 0: off
  double top_p = 1;   // 1: off
  uint64_t seed = 42;
};

// The token that `logits` (V) give at `position` of the text; the draw is a function of (seed,
// sequence, position). Throws Error(kNumeric) when a logit is NaN.
int32_t choose_token(const Tensor& logits, const SamplingOptions& options, uint64_t sequence,
                     uint64_t position);

enum class StopReason : uint8_t { kEndToken, kMaxTokens, kContextFull };

// Appends up to `max_tokens` tokens to `ids` (which holds the prompt), calling `on_token` after
// each; stops at a token of `end_tokens` (not appended) or where the model's positions end.
// `on_token` returns false to stop. Requires: ids is not empty and fits the model's positions.
StopReason generate(const Model& model, std::vector<int32_t>& ids, int64_t max_tokens,
                    const std::vector<int32_t>& end_tokens, const SamplingOptions& options,
                    DType dtype, uint64_t sequence,
                    const std::function<bool(int32_t)>& on_token = {});

// An empty cache for `batch` sequences of up to `capacity` tokens, on the model's device.
KvCache make_cache(const Model& model, int64_t batch, int64_t capacity, DType dtype);

}  // namespace tenon
