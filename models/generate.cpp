// SPDX-License-Identifier: Apache-2.0
#include "models/generate.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "core/error.h"

namespace tenon {
namespace {

SampleRow row_of(const SamplingOptions& options, uint64_t sequence, uint64_t position,
                 std::span<const int32_t> repeated) {
  return {.temperature = options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .min_p = options.min_p,
          .repetition_penalty = options.repetition_penalty,
          .repeated = repeated,
          .random = {.seed = options.seed,
                     .purpose = static_cast<uint32_t>(Purpose::kSample),
                     .step = static_cast<uint32_t>(sequence)},
          .position = position};
}

void require_token(int32_t token, uint64_t position) {
  if (token < 0)
    fail(Exit::kNumeric, "generate: the logits of position {} are not numbers", position);
}

// One prompt and what follows it.
struct Text {
  size_t index;  // of the prompt
  uint64_t sequence;
  int64_t prompt_tokens;
  std::vector<int32_t> ids;  // with the prompt
  KvPages kept;
  std::vector<int32_t> distinct;  // tokens of ids, where repetition has a price
  std::vector<bool> met;          // (V): whether it is in distinct

  int64_t length() const { return static_cast<int64_t>(ids.size()); }
};

// Texts in the making, each at a point of its own.
class Batch {
 public:
  Batch(const Model& model, const GenerationOptions& options, const GenerationEvents& events,
        std::vector<Generated>& results)
      : model_(model),
        options_(options),
        events_(events),
        results_(results),
        device_(device_of(model)),
        cache_(make_cache(model, options.dtype)),
        // On a CPU so many rows of a product get the same bits together and alone; on a GPU the same
        // number of rows does, so that missing texts are made up for.
        most_(device_ == Device::kCPU ? std::min(options.batch, kAlikeRows) : options.batch),
        filled_(device_ != Device::kCPU) {}

  bool full() const { return static_cast<int64_t>(texts_.size()) >= most_; }
  bool empty() const { return texts_.empty(); }

  // Takes a prompt in, with the first token after it.
  void admit(size_t index, const Prompt& prompt) {
    const auto tokens = static_cast<int64_t>(prompt.ids.size());
    TENON_CHECK(tokens > 0 && tokens <= model_.max_positions(),
                "[generate] a prompt of {} tokens for a model of {} positions", tokens,
                model_.max_positions());
    auto text = std::make_unique<Text>(Text{
        .index = index, .sequence = prompt.sequence, .prompt_tokens = tokens, .ids = prompt.ids});
    if (options_.sampling.repetition_penalty != 1) {
      text->met.resize(static_cast<size_t>(model_.vocabulary()));
      for (const int32_t id : text->ids) meet(*text, id);
    }
    if (stopped(*text)) return;
    const Tensor hidden = run({&text->kept}, text->ids);  // (1, tokens, C)
    const Tensor last = hidden.view({tokens, hidden.dim(2)}).rows(tokens - 1, tokens);
    const std::vector<int32_t> next = choose(last, {text.get()});
    if (!add(*text, next[0])) texts_.push_back(std::move(text));
  }

  // Gives every text its next token.
  void step() {
    std::vector<KvPages*> kept;
    std::vector<int32_t> newest;
    std::vector<const Text*> texts;
    for (const auto& text : texts_) {
      kept.push_back(&text->kept);
      newest.push_back(text->ids.back());
      texts.push_back(text.get());
    }
    while (filled_ && static_cast<int64_t>(kept.size()) < most_) {
      spare_.tokens = 0;
      kept.push_back(&spare_);
      newest.push_back(newest.front());
    }
    const auto rows = static_cast<int64_t>(kept.size());
    const Tensor hidden = run(std::move(kept), newest);  // (rows, 1, C)
    const std::vector<int32_t> next = choose(hidden.view({rows, hidden.dim(2)}), texts);
    size_t at = 0;
    std::erase_if(texts_,
                  [&](const std::unique_ptr<Text>& text) { return add(*text, next[at++]); });
  }

 private:
  static void meet(Text& text, int32_t id) {
    if (text.met.empty() || text.met[static_cast<size_t>(id)]) return;
    text.met[static_cast<size_t>(id)] = true;
    text.distinct.push_back(id);
  }

  // A pass over the new tokens of some texts, as many of each.
  Tensor run(std::vector<KvPages*> kept, const std::vector<int32_t>& ids) {
    const auto rows = static_cast<int64_t>(kept.size()),
               fresh = static_cast<int64_t>(ids.size()) / rows;
    const Tensor given = Tensor::empty({rows, fresh}, DType::kI32);
    const Tensor positions = Tensor::empty({rows, fresh}, DType::kI32);
    for (int64_t i = 0; i < rows * fresh; ++i) {
      const int64_t past = kept[static_cast<size_t>(i / fresh)]->tokens;
      given.data<int32_t>()[i] = ids[static_cast<size_t>(i)];
      positions.data<int32_t>()[i] = static_cast<int32_t>(past + i % fresh);
    }
    Context context;
    context.ids = given.to(device_);
    context.positions = positions.to(device_);
    context.dtype = options_.dtype;
    context.cache = &cache_;
    cache_.begin(std::move(kept), fresh);
    Tensor hidden = forward(model_, context);
    cache_.end();
    return hidden;
  }

  // The next tokens of the texts, from the first rows of `hidden` (any, C).
  std::vector<int32_t> choose(const Tensor& hidden, const std::vector<const Text*>& texts) const {
    const Tensor scores = logits(hidden, model_.head().value);  // (any, V)
    std::vector<SampleRow> rows;
    for (const Text* text : texts) {
      rows.push_back(row_of(options_.sampling, text->sequence,
                            static_cast<uint64_t>(text->length()), text->distinct));
    }
    std::vector<int32_t> tokens = sample(scores, rows);
    for (size_t i = 0; i < texts.size(); ++i)
      require_token(tokens[i], static_cast<uint64_t>(texts[i]->length()));
    return tokens;
  }

  // Ends a text that has no room for another token.
  bool stopped(const Text& text) {
    if (text.length() - text.prompt_tokens >= options_.max_tokens)
      return done(text, StopReason::kMaxTokens);
    return text.length() >= model_.max_positions() && done(text, StopReason::kContextFull);
  }

  // Adds a token to a text; true when that ends it.
  bool add(Text& text, int32_t id) {
    const std::vector<int32_t>& ends = options_.end_tokens;
    if (std::find(ends.begin(), ends.end(), id) != ends.end())
      return done(text, StopReason::kEndToken);
    text.ids.push_back(id);
    meet(text, id);
    if (events_.on_token && !events_.on_token(text.index, id)) return done(text, StopReason::kTold);
    return stopped(text);
  }

  bool done(const Text& text, StopReason reason) {
    Generated& result = results_[text.index];
    result = {{text.ids.begin() + text.prompt_tokens, text.ids.end()}, reason};
    if (events_.on_done) events_.on_done(text.index, result);
    return true;
  }

  const Model& model_;
  const GenerationOptions& options_;
  const GenerationEvents& events_;
  std::vector<Generated>& results_;
  Device device_;
  KvCache cache_;
  int64_t most_;
  bool filled_;
  KvPages spare_;  // of rows that stand for no text
  std::vector<std::unique_ptr<Text>> texts_;
};

}  // namespace

int32_t choose_token(const Tensor& logits, const SamplingOptions& options, uint64_t sequence,
                     uint64_t position) {
  const SampleRow row = row_of(options, sequence, position, {});
  const int32_t token = sample(logits, {&row, 1})[0];
  require_token(token, position);
  return token;
}

KvCache make_cache(const Model& model, DType dtype) {
  return KvCache(model.blocks(), model.cache_channels(), dtype, device_of(model));
}

std::vector<Generated> generate_batch(const Model& model, const std::vector<Prompt>& prompts,
                                      const GenerationOptions& options,
                                      const GenerationEvents& events) {
  TENON_CHECK(options.batch > 0, "[generate] a batch of {} texts", options.batch);
  std::vector<Generated> results(prompts.size());
  Batch batch(model, options, events, results);
  for (size_t next = 0; next < prompts.size() || !batch.empty();) {
    while (next < prompts.size() && !batch.full()) {
      batch.admit(next, prompts[next]);
      ++next;
    }
    if (!batch.empty()) batch.step();
  }
  return results;
}

StopReason generate(const Model& model, std::vector<int32_t>& ids, int64_t max_tokens,
                    const std::vector<int32_t>& end_tokens, const SamplingOptions& options,
                    DType dtype, uint64_t sequence, const std::function<bool(int32_t)>& on_token) {
  GenerationEvents events;
  if (on_token) events.on_token = [&](size_t, int32_t id) { return on_token(id); };
  const std::vector<Generated> texts = generate_batch(model, {{ids, sequence}},
                                                      {.max_tokens = max_tokens,
                                                       .end_tokens = end_tokens,
                                                       .sampling = options,
                                                       .dtype = dtype,
                                                       .batch = 1},
                                                      events);
  ids.insert(ids.end(), texts[0].ids.begin(), texts[0].ids.end());
  return texts[0].reason;
}

}  // namespace tenon
