// SPDX-License-Identifier: Apache-2.0
#include "models/generate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace tenon {
namespace {

// Token ids by falling probability (ties by id), as far as top-k and top-p let them take part, with
// their weights.
struct Candidates {
  std::vector<int32_t> ids;
  std::vector<double> weights;  // unnormalised
};

Candidates candidates(const float* logits, int64_t vocabulary, const SamplingOptions& options) {
  Candidates c;
  c.ids.resize(static_cast<size_t>(vocabulary));
  std::iota(c.ids.begin(), c.ids.end(), 0);
  const auto better = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::sort(c.ids.begin(), c.ids.end(), better);
  if (options.top_k > 0 && options.top_k < vocabulary) {
    const float kth = logits[c.ids[static_cast<size_t>(options.top_k) - 1]];
    while (logits[c.ids.back()] < kth) c.ids.pop_back();
  }
  const double highest = logits[c.ids.front()];
  double total = 0;
  for (const int32_t id : c.ids) {
    c.weights.push_back(
        std::exp((static_cast<double>(logits[id]) - highest) / options.temperature));
    total += c.weights.back();
  }
  if (options.top_p < 1) {
    double mass = 0;
    size_t kept = 0;
    while (kept < c.ids.size() && (kept == 0 || mass < options.top_p * total))
      mass += c.weights[kept++];
    c.ids.resize(kept);
    c.weights.resize(kept);
  }
  return c;
}

// The batch of one for tokens [past, past + count) of a text.
Context context_of(const int32_t* ids, int64_t past, int64_t count, DType dtype, KvCache* cache) {
  Context context;
  context.ids = Tensor::empty({1, count}, DType::kI32);
  context.positions = Tensor::empty({1, count}, DType::kI32);
  std::copy_n(ids, count, context.ids.data<int32_t>());
  std::iota(context.positions.data<int32_t>(), context.positions.data<int32_t>() + count,
            static_cast<int32_t>(past));
  context.dtype = dtype;
  context.cache = cache;
  return context;
}

}  // namespace

int32_t choose_token(const float* logits, int64_t vocabulary, const SamplingOptions& options,
                     uint64_t sequence, uint64_t position) {
  for (int64_t i = 0; i < vocabulary; ++i) {
    if (std::isnan(logits[i]))
      fail(Exit::kNumeric, "generate: the logits of position {} are not numbers", position);
  }
  if (options.temperature <= 0)
    return static_cast<int32_t>(std::max_element(logits, logits + vocabulary) - logits);
  const Candidates c = candidates(logits, vocabulary, options);
  const RandomStream random{.seed = options.seed,
                            .purpose = static_cast<uint32_t>(Purpose::kSample),
                            .step = static_cast<uint32_t>(sequence)};
  const PhiloxBlock block = philox_block(random, position);
  const double u =
      (static_cast<double>(block.word[0]) + static_cast<double>(block.word[1]) * 0x1p-32) * 0x1p-32;
  double left = u * std::accumulate(c.weights.begin(), c.weights.end(), 0.0);
  for (size_t i = 0; i < c.ids.size(); ++i) {
    left -= c.weights[i];
    if (left < 0) return c.ids[i];
  }
  return c.ids.back();
}

KvCache make_cache(const Model& model, int64_t batch, int64_t capacity, DType dtype) {
  KvCache cache;
  cache.capacity = capacity;
  for (int64_t i = 0; i < model.blocks(); ++i) {
    cache.keys.push_back(Tensor::empty({batch, capacity, model.cache_channels()}, dtype));
    cache.values.push_back(Tensor::empty({batch, capacity, model.cache_channels()}, dtype));
  }
  return cache;
}

StopReason generate(const Model& model, std::vector<int32_t>& ids, int64_t max_tokens,
                    const std::vector<int32_t>& end_tokens, const SamplingOptions& options,
                    DType dtype, uint64_t sequence, const std::function<bool(int32_t)>& on_token) {
  const auto prompt = static_cast<int64_t>(ids.size());
  const int64_t most = model.max_positions();
  TENON_CHECK(prompt > 0 && prompt <= most,
              "[generate] a prompt of {} tokens for a model of {} positions", prompt, most);
  KvCache cache = make_cache(model, 1, std::min(most, prompt + max_tokens), dtype);
  for (int64_t made = 0; made < max_tokens; ++made) {
    const auto length = static_cast<int64_t>(ids.size());
    if (length >= most) return StopReason::kContextFull;  // no position left for another token
    const int64_t fresh = length - cache.past;
    const Context context = context_of(ids.data() + cache.past, cache.past, fresh, dtype, &cache);
    const Tensor hidden = forward(model, context);  // (1, fresh, C)
    cache.past = length;
    const Tensor last = hidden.view({fresh, hidden.dim(2)}).rows(fresh - 1, fresh);  // (1, C)
    const Tensor scores = logits(last, model.head().value);                          // (1, V)
    const int32_t next = choose_token(scores.data<float>(), model.vocabulary(), options, sequence,
                                      static_cast<uint64_t>(length));
    if (std::find(end_tokens.begin(), end_tokens.end(), next) != end_tokens.end())
      return StopReason::kEndToken;
    ids.push_back(next);
    if (on_token && !on_token(next)) return StopReason::kMaxTokens;
  }
  return StopReason::kMaxTokens;
}

}  // namespace tenon
