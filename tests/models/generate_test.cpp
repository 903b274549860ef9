// SPDX-License-Identifier: Apache-2.0
// Generation: the cached path against the whole text computed anew, the distribution that tokens
// are drawn from, and where it stops.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <set>

#include "core/memory.h"
#include "core/parallel_for.h"
#include "models/generate.h"
#include "tests/core/temp_folder.h"
#include "tests/models/gpt2_reference.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

Context context_of(const std::vector<int32_t>& ids, int32_t first_position = 0) {
  Context context;
  std::vector<int32_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), first_position);
  context.ids = integers({1, static_cast<int64_t>(ids.size())}, ids);
  context.positions = integers({1, static_cast<int64_t>(ids.size())}, positions);
  return context;
}

Tensor logits_from(const std::vector<float>& scores) {
  Tensor tensor = Tensor::empty({1, static_cast<int64_t>(scores.size())}, DType::kF32);
  std::copy(scores.begin(), scores.end(), tensor.data<float>());
  return tensor;
}

// How often each token is drawn in `draws` draws.
std::vector<int64_t> counts_of(const std::vector<float>& scores, const SamplingOptions& options,
                               int64_t draws) {
  std::vector<int64_t> counts(scores.size(), 0);
  for (int64_t i = 0; i < draws; ++i) {
    const int32_t token = choose_token(logits_from(scores), options, static_cast<uint64_t>(i % 7),
                                       static_cast<uint64_t>(i / 7));
    ++counts.at(static_cast<size_t>(token));
  }
  return counts;
}

// Tokens that are drawn at all.
std::set<size_t> drawn(const std::vector<float>& scores, const SamplingOptions& options) {
  std::set<size_t> tokens;
  const std::vector<int64_t> counts = counts_of(scores, options, 3000);
  for (size_t token = 0; token < counts.size(); ++token) {
    if (counts[token] > 0) tokens.insert(token);
  }
  return tokens;
}

}  // namespace

TEST_CASE("greedy tokens are those of the whole text computed anew", "[generate]") {
  const bool lora = GENERATE(false, true);
  const auto model = tiny_model();
  if (lora) give_lora(*model);
  const std::vector<int32_t> prompt = {3, 1, 40, 0, 7};
  std::vector<int32_t> cached = prompt, anew = prompt;
  CHECK(generate(*model, cached, 9, {}, {}, DType::kF32, 0) == StopReason::kMaxTokens);
  for (int i = 0; i < 9; ++i) {
    const std::vector<float> all = logits_of(*model, context_of(anew));
    const auto last = all.end() - static_cast<long>(model->vocabulary());
    anew.push_back(static_cast<int32_t>(std::max_element(last, all.end()) - last));
  }
  CHECK(cached == anew);
  CHECK(std::set<int32_t>(anew.begin() + 5, anew.end()).size() > 1);  // else any path would do
}

TEST_CASE("repetition has its price for tokens that were made too", "[generate]") {
  const auto model = tiny_model();
  give_lora(*model);
  const double penalty = 1.6;
  const std::vector<int32_t> prompt = {3, 1, 40, 0, 7};
  std::vector<int32_t> cached = prompt, anew = prompt, for_prompt_alone = prompt;
  generate(*model, cached, 9, {}, {.repetition_penalty = penalty}, DType::kF32, 0);
  const auto next = [&](const std::vector<int32_t>& text, size_t counted) {
    std::vector<float> all = logits_of(*model, context_of(text));
    const auto last = all.end() - static_cast<long>(model->vocabulary());
    for (const int32_t id :
         std::set<int32_t>(text.begin(), text.begin() + static_cast<long>(counted))) {
      last[id] *= static_cast<float>(last[id] < 0 ? penalty : 1 / penalty);
    }
    return static_cast<int32_t>(std::max_element(last, all.end()) - last);
  };
  for (int i = 0; i < 9; ++i) {
    anew.push_back(next(anew, anew.size()));
    for_prompt_alone.push_back(next(for_prompt_alone, prompt.size()));
  }
  CHECK(cached == anew);
  CHECK(anew != for_prompt_alone);  // else it would not matter
}

TEST_CASE("logits from the cache are those of the whole text", "[generate]") {
  const auto model = tiny_model();
  const TinyBatch batch = tiny_batch(1, 14, 3);
  const std::vector<int32_t> ids(batch.context.ids.data<int32_t>(),
                                 batch.context.ids.data<int32_t>() + 14);
  const Gpt2Logits want = gpt2_logits(*model, tiny_config(), batch.context);
  KvCache cache = make_cache(*model, DType::kF32);
  KvPages text;
  std::vector<float> got;
  for (const auto& [begin, end] : {std::pair<long, long>{0, 6}, {6, 7}, {7, 8}, {8, 14}}) {
    Context context =
        context_of({ids.begin() + begin, ids.begin() + end}, static_cast<int32_t>(begin));
    context.cache = &cache;
    cache.begin({&text}, end - begin);
    const std::vector<float> part = logits_of(*model, context);
    got.insert(got.end(), part.begin(), part.end());
    cache.end();
  }
  CHECK_WITHIN(got, want.logits, want.bound);
}

TEST_CASE("tokens are drawn as often as softmax says", "[generate]") {
  const std::vector<float> scores = {1.5f,  -2, 0, 3, 2.5f, -std::numeric_limits<float>::infinity(),
                                     0.25f, -1};
  const double temperature = GENERATE(1.0, 0.7, 3.0);
  constexpr int64_t kDraws = 40000;
  const std::vector<int64_t> counts =
      counts_of(scores, {.temperature = temperature, .seed = 3}, kDraws);
  double total = 0;
  for (const float score : scores) total += std::exp(static_cast<double>(score) / temperature);
  for (size_t token = 0; token < scores.size(); ++token) {
    const double p = std::exp(static_cast<double>(scores[token]) / temperature) / total;
    const double expected = p * static_cast<double>(kDraws);
    INFO("token " << token << " drawn " << counts[token] << " times, expected " << expected);
    CHECK(std::fabs(static_cast<double>(counts[token]) - expected) <=
          4 * std::sqrt(expected * (1 - p)));
  }
}

TEST_CASE("top-k and top-p leave the tokens that they should", "[generate]") {
  // Probabilities 0.4, 0.1, 0.1, 0.2, 0.05, 0.15 at temperature 1.
  std::vector<float> scores;
  for (const double p : {0.4, 0.1, 0.1, 0.2, 0.05, 0.15})
    scores.push_back(static_cast<float>(std::log(p)));
  using Set = std::set<size_t>;
  CHECK(drawn(scores, {.temperature = 1}) == Set{0, 1, 2, 3, 4, 5});
  CHECK(drawn(scores, {.temperature = 1, .top_k = 1}) == Set{0});
  CHECK(drawn(scores, {.temperature = 1, .top_k = 3}) == Set{0, 3, 5});
  CHECK(drawn(scores, {.temperature = 1, .top_k = 4}) ==
        Set{0, 1, 2, 3, 5});  // a tie with the k-th stays
  CHECK(drawn(scores, {.temperature = 1, .top_k = 100}) == Set{0, 1, 2, 3, 4, 5});
  CHECK(drawn(scores, {.temperature = 1, .top_p = 0}) == Set{0});
  CHECK(drawn(scores, {.temperature = 1, .top_p = 0.39}) == Set{0});
  CHECK(drawn(scores, {.temperature = 1, .top_p = 0.41}) == Set{0, 3});
  CHECK(drawn(scores, {.temperature = 1, .top_p = 0.74}) == Set{0, 3, 5});
  CHECK(drawn(scores, {.temperature = 1, .top_p = 0.94}) == Set{0, 1, 2, 3, 5});
  // Top-p counts the mass of what top-k has left: 0.4 and 0.2 of 0.6.
  CHECK(drawn(scores, {.temperature = 1, .top_k = 2, .top_p = 0.65}) == Set{0});
  CHECK(drawn(scores, {.temperature = 1, .top_k = 2, .top_p = 0.7}) == Set{0, 3});
  // And of the tempered distribution: squares 0.16, 0.04, 0.0225, ... of 0.245; the first has
  // 0.653.
  CHECK(drawn(scores, {.temperature = 0.5, .top_p = 0.64}) == Set{0});
  CHECK(drawn(scores, {.temperature = 0.5, .top_p = 0.66}) == Set{0, 3});
}

TEST_CASE("greedy takes the lowest id on ties, and refuses what is not a number", "[generate]") {
  const std::vector<float> scores = {1, 5, 2, 5};
  CHECK(choose_token(logits_from(scores), {}, 0, 0) == 1);
  const std::vector<float> broken = {1, 5, std::nanf(""), 5};
  CHECK(error_of([&] { choose_token(logits_from(broken), {}, 0, 12); }) ==
        "4: generate: the logits of position 12 are not numbers");
}

TEST_CASE("draws are fixed by seed, sequence and position", "[generate]") {
  const auto model = tiny_model();
  const auto text = [&](uint64_t seed, uint64_t sequence) {
    std::vector<int32_t> ids = {5};
    generate(*model, ids, 14, {}, {.temperature = 2, .seed = seed}, DType::kF32, sequence);
    return ids;
  };
  CHECK(text(1, 0) == text(1, 0));
  CHECK(text(1, 0) != text(2, 0));
  CHECK(text(1, 0) != text(1, 1));
}

TEST_CASE("generation stops at an end token, at the limit, at the context's end, or when told",
          "[generate]") {
  const auto model = tiny_model();
  std::vector<int32_t> free = {3, 1}, ids = {3, 1};
  CHECK(generate(*model, free, 100, {}, {}, DType::kF32, 0) == StopReason::kContextFull);
  CHECK(free.size() == 16);  // the model's positions
  const int32_t end = free[6];
  const auto first = std::find(free.begin() + 2, free.end(), end);
  CHECK(generate(*model, ids, 100, {99, end}, {}, DType::kF32, 0) == StopReason::kEndToken);
  CHECK(ids == std::vector<int32_t>(free.begin(), first));
  ids = {3, 1};
  CHECK(generate(*model, ids, 0, {}, {}, DType::kF32, 0) == StopReason::kMaxTokens);
  CHECK(ids.size() == 2);
  std::vector<int32_t> heard;
  CHECK(generate(*model, ids, 100, {}, {}, DType::kF32, 0, [&](int32_t token) {
          heard.push_back(token);
          return heard.size() < 3;
        }) == StopReason::kTold);
  CHECK(heard == std::vector<int32_t>(free.begin() + 2, free.begin() + 5));
  CHECK(ids.size() == 5);
  ids = free;  // a prompt that fills the context leaves no position for another token
  CHECK(generate(*model, ids, 1, {}, {}, DType::kF32, 0) == StopReason::kContextFull);
  CHECK(ids == free);
  ids.push_back(1);
  CHECK_THAT(error_of([&] { generate(*model, ids, 1, {}, {}, DType::kF32, 0); }),
             Catch::Contains("[generate]"));
}

namespace {

// Prompts of many lengths, up to over a page.
std::vector<Prompt> some_prompts(int64_t count, int64_t vocabulary) {
  std::mt19937 random(11);
  std::vector<Prompt> prompts;
  for (int64_t i = 0; i < count; ++i) {
    Prompt prompt{.ids = {}, .sequence = static_cast<uint64_t>(i)};
    const int64_t length = i == 0 ? 62 : i == 1 ? 64 : 1 + static_cast<int64_t>(random() % 90);
    for (int64_t t = 0; t < length; ++t)
      prompt.ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocabulary)));
    prompts.push_back(prompt);
  }
  return prompts;
}

// GPT-2 with room for more than a page, and a Llama with heads of 24 that share one key head.
std::unique_ptr<Model> batch_model(bool llama) {
  if (llama) {
    return tiny_model({{"model_type", "llama"},
                       {"vocab_size", 67},
                       {"hidden_size", 72},
                       {"intermediate_size", 100},
                       {"num_hidden_layers", 2},
                       {"num_attention_heads", 3},
                       {"num_key_value_heads", 1},
                       {"max_position_embeddings", 200},
                       {"eos_token_id", 2}});
  }
  Json config = tiny_config();
  config["n_positions"] = 200;
  return tiny_model(config);
}

}  // namespace

TEST_CASE("a text does not depend on its batch nor on threads", "[generate]") {
  const bool llama = GENERATE(false, true);
  const auto model = batch_model(llama);
  const bool lora = GENERATE(false, true);
  if (lora) give_lora(*model);
  const std::vector<Prompt> prompts = some_prompts(40, model->vocabulary());
  GenerationOptions options = {
      .max_tokens = 20,
      .end_tokens = {7},
      .sampling = {.temperature = 1.5, .top_p = 0.95, .repetition_penalty = 1.2, .seed = 9}};
  const auto ids = [&](int64_t batch, int threads, const std::vector<Prompt>& of) {
    const int before = thread_count();
    set_thread_count(threads);
    options.batch = batch;
    std::vector<std::vector<int32_t>> texts;
    for (const Generated& text : generate_batch(*model, of, options)) texts.push_back(text.ids);
    set_thread_count(before);
    return texts;
  };
  const auto together = ids(33, 3, prompts);
  CHECK(ids(1, 1, prompts) == together);
  CHECK(ids(5, 2, prompts) == together);
  CHECK(ids(5, 2, {prompts[3]})[0] == together[3]);
  CHECK(std::set<std::vector<int32_t>>(together.begin(), together.end()).size() > 35);
}

TEST_CASE("the logits of a step have the same bits whatever the batch", "[generate]") {
  const bool llama = GENERATE(false, true);
  const auto model = batch_model(llama);
  give_lora(*model);
  const std::vector<Prompt> prompts = some_prompts(32, model->vocabulary());
  // The last token of the first `rows` prompts, in one pass.
  const auto last_logits = [&](size_t rows) {
    KvCache cache = make_cache(*model, DType::kF32);
    std::vector<KvPages> kept(rows);
    Context context;
    context.cache = &cache;
    std::vector<int32_t> newest, positions;
    for (size_t i = 0; i < rows; ++i) {
      std::vector<int32_t> ids = prompts[i].ids;
      newest.push_back(ids.back());
      positions.push_back(static_cast<int32_t>(ids.size()) - 1);
      ids.pop_back();
      if (ids.empty()) continue;
      Context before = context_of(ids);
      before.cache = &cache;
      cache.begin({&kept[i]}, static_cast<int64_t>(ids.size()));
      forward(*model, before);
      cache.end();
    }
    std::vector<KvPages*> texts;
    for (KvPages& text : kept) texts.push_back(&text);
    context.ids = integers({static_cast<int64_t>(rows), 1}, newest);
    context.positions = integers({static_cast<int64_t>(rows), 1}, positions);
    cache.begin(texts, 1);
    return logits_of(*model, context);
  };
  const std::vector<float> all = last_logits(32);
  for (const size_t rows : {1, 2, 3, 4, 7, 8, 9, 17}) {
    const std::vector<float> some = last_logits(rows);
    CHECK(std::equal(some.begin(), some.end(), all.begin()));
  }
}

TEST_CASE("greedy texts of a batch are those of the whole text computed anew", "[generate]") {
  const bool llama = GENERATE(false, true);
  const auto model = batch_model(llama);
  const std::vector<Prompt> prompts = some_prompts(6, model->vocabulary());
  const std::vector<Generated> texts =
      generate_batch(*model, prompts, {.max_tokens = 12, .batch = 4});
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::vector<int32_t> anew = prompts[i].ids;
    for (int made = 0; made < 12; ++made) {
      const std::vector<float> all = logits_of(*model, context_of(anew));
      const auto last = all.end() - static_cast<long>(model->vocabulary());
      anew.push_back(static_cast<int32_t>(std::max_element(last, all.end()) - last));
    }
    anew.erase(anew.begin(), anew.begin() + static_cast<long>(prompts[i].ids.size()));
    CHECK(texts[i].ids == anew);
    CHECK(texts[i].reason == StopReason::kMaxTokens);
  }
}

TEST_CASE("texts of a batch end each for its own reason", "[generate]") {
  const auto model = tiny_model();  // 16 positions
  const std::vector<Prompt> prompts = {
      {{3, 1}, 0}, {{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8}, 1}, {{2, 7}, 2}};
  std::vector<size_t> done;
  GenerationEvents events;
  events.on_token = [](size_t index, int32_t) { return index != 2; };
  events.on_done = [&](size_t index, const Generated&) { done.push_back(index); };
  const std::vector<Generated> texts = generate_batch(*model, prompts, {.max_tokens = 9}, events);
  CHECK(texts[0].reason == StopReason::kMaxTokens);
  CHECK(texts[0].ids.size() == 9);
  CHECK(texts[1].reason == StopReason::kContextFull);
  CHECK(texts[1].ids.size() == 4);
  CHECK(texts[2].reason == StopReason::kTold);
  CHECK(texts[2].ids.size() == 1);
  CHECK(done == std::vector<size_t>{2, 1, 0});
  CHECK(generate_batch(*model, {}, {}).empty());
}

TEST_CASE("a cache's memory follows its texts", "[generate]") {
  KvCache cache(2, 24, DType::kF32, Device::kCPU);
  const int64_t before = memory().now(MemoryKind::kActivations);
  KvPages one, other;
  const int64_t page = 2 * 2 * kPageTokens * 24 * 4;
  cache.begin({&one, &other}, kPageTokens);
  cache.end();
  CHECK(one.pages.size() == 1);
  cache.begin({&one}, 1);
  cache.end();
  CHECK(one.pages.size() == 2);
  CHECK(one.tokens == kPageTokens + 1);
  CHECK(other.pages.size() == 1);
  const int64_t held = memory().now(MemoryKind::kActivations) - before;
  CHECK(held >= 3 * page);
  CHECK(held < 4 * page);
}

TEST_CASE("a cache's list of pages is that of its batch", "[generate]") {
  KvCache cache(2, 24, DType::kF32, Device::kCPU);
  KvPages one, other;
  cache.begin({&one, &other}, 1);
  cache.end();
  CHECK(cache.block(0).pages.shape() == Shape{2, 1});
  // The same pages, all of one text.
  one.pages.push_back(other.pages[0]);
  one.tokens = kPageTokens;
  cache.begin({&one}, 1);
  CHECK(cache.block(0).pages.shape() == Shape{1, 2});
}

TEST_CASE("half-width activations generate too", "[generate]") {
  const auto model = tiny_model();
  const DType dtype = GENERATE(DType::kBF16, DType::kF16);
  std::vector<int32_t> cached = {3, 1, 40}, anew = cached;
  generate(*model, cached, 6, {}, {}, dtype, 0);
  for (int i = 0; i < 6; ++i) {
    Context context = context_of(anew);
    context.dtype = dtype;
    const std::vector<float> all = logits_of(*model, context);
    const auto last = all.end() - static_cast<long>(model->vocabulary());
    anew.push_back(static_cast<int32_t>(std::max_element(last, all.end()) - last));
  }
  CHECK(cached == anew);
}

namespace {

// The token that owns the share `u` of the mass, tokens going by falling logit; -1 where `u` is so
// close to an end that fp32 cannot tell.
int32_t owner(const std::vector<double>& probabilities, double u) {
  std::vector<size_t> ids(probabilities.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](size_t i, size_t j) { return probabilities[i] > probabilities[j]; });
  double end = 0;
  for (const size_t id : ids) {
    end += probabilities[id];
    if (std::fabs(end - u) < 1e-6) return -1;
    if (end > u) return static_cast<int32_t>(id);
  }
  return -1;
}

}  // namespace

TEST_CASE("tokens are those that transformers' processors leave", "[generate]") {
  const Json cases = parse_json_file(TENON_SOURCE_DIR "/tests/models/sampling_cases.json");
  REQUIRE(cases.size() == 28);
  for (size_t number = 0; number < cases.size(); ++number) {
    const Json& each = cases[number];
    const auto probabilities = each.at("probabilities").get<std::vector<double>>();
    std::vector<int32_t> repeated;
    for (const int32_t id : each.at("ids").get<std::vector<int32_t>>()) {
      if (std::find(repeated.begin(), repeated.end(), id) == repeated.end()) repeated.push_back(id);
    }
    const Json& options = each.at("options");
    int told = 0;
    for (uint64_t position = 0; position < 200; ++position) {
      const SampleRow row = {.temperature = options.at("temperature"),
                             .top_k = options.value("top_k", int64_t{0}),
                             .top_p = options.value("top_p", 1.0),
                             .min_p = options.value("min_p", 0.0),
                             .repetition_penalty = options.value("repetition_penalty", 1.0),
                             .repeated = repeated,
                             .random = {.seed = 5, .purpose = 1, .step = 2},
                             .position = position};
      const std::vector<int32_t> got =
          sample(logits_from(each.at("logits").get<std::vector<float>>()), {&row, 1});
      const PhiloxBlock words = philox_block(row.random, position);
      const int32_t want = owner(probabilities, words.word[0] * 0x1p-32 + words.word[1] * 0x1p-64);
      if (want < 0) continue;
      ++told;
      INFO("case " << number << ", position " << position);
      REQUIRE(got[0] == want);
    }
    CHECK(told > 190);
  }
}

}  // namespace tenon::test
