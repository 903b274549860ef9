// SPDX-License-Identifier: Apache-2.0
#include "models/generate.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace tenon {
namespace {

// The batch of one for tokens [past, past + count) of a text.
Context context_of(const int32_t* ids, int64_t past, int64_t count, DType dtype, Device device,
                   KvCache* cache) {
  Context context;
  Tensor given = Tensor::empty({1, count}, DType::kI32);
  Tensor positions = Tensor::empty({1, count}, DType::kI32);
  std::copy_n(ids, count, given.data<int32_t>());
  std::iota(positions.data<int32_t>(), positions.data<int32_t>() + count,
            static_cast<int32_t>(past));
  context.ids = given.to(device);
  context.positions = positions.to(device);
  context.dtype = dtype;
  context.cache = cache;
  return context;
}

}  // namespace

int32_t choose_token(const Tensor& logits, const SamplingOptions& options, uint64_t sequence,
                     uint64_t position) {
  const RandomStream random{.seed = options.seed,
                            .purpose = static_cast<uint32_t>(Purpose::kSample),
                            .step = static_cast<uint32_t>(sequence)};
  const int32_t token =
      sample(logits, options.temperature, options.top_k, options.top_p, random, position);
  if (token < 0)
    fail(Exit::kNumeric, "generate: the logits of position {} are not numbers", position);
  return token;
}

KvCache make_cache(const Model& model, int64_t batch, int64_t capacity, DType dtype) {
  KvCache cache;
  cache.capacity = capacity;
  const Shape shape{batch, capacity, model.cache_channels()};
  for (int64_t i = 0; i < model.blocks(); ++i) {
    cache.keys.push_back(Tensor::empty(shape, dtype, device_of(model)));
    cache.values.push_back(Tensor::empty(shape, dtype, device_of(model)));
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
    const Context context =
        context_of(ids.data() + cache.past, cache.past, fresh, dtype, device_of(model), &cache);
    const Tensor hidden = forward(model, context);  // (1, fresh, C)
    cache.past = length;
    const Tensor last = hidden.view({fresh, hidden.dim(2)}).rows(fresh - 1, fresh);  // (1, C)
    const Tensor scores = logits(last, model.head().value);                          // (1, V)
    const int32_t next = choose_token(scores, options, sequence, static_cast<uint64_t>(length));
    if (std::find(end_tokens.begin(), end_tokens.end(), next) != end_tokens.end())
      return StopReason::kEndToken;
    ids.push_back(next);
    if (on_token && !on_token(next)) return StopReason::kTold;
  }
  return StopReason::kMaxTokens;
}

std::vector<Generated> generate_batch(const Model& model, const std::vector<Prompt>& prompts,
                                      const GenerationOptions& options,
                                      const GenerationEvents& events) {
  std::vector<Generated> texts;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t> ids = prompts[i].ids;
    const StopReason reason =
        generate(model, ids, options.max_tokens, options.end_tokens, options.sampling,
                 options.dtype, prompts[i].sequence,
                 [&](int32_t id) { return !events.on_token || events.on_token(i, id); });
    ids.erase(ids.begin(), ids.begin() + static_cast<long>(prompts[i].ids.size()));
    texts.push_back({std::move(ids), reason});
    if (events.on_done) events.on_done(i, texts.back());
  }
  return texts;
}

}  // namespace tenon
