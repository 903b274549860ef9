// SPDX-License-Identifier: Apache-2.0
// Sampling: greedy, and draws after temperature, top-k and top-p.
#include <algorithm>

#include "tests/kernels/kernel_test.h"

namespace tenon::test {
namespace {

struct Options {
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
};

// How far the number in [0, 1) that is drawn lies outside the interval that `token` owns, as a
// share of the mass; infinite when it owns none. Tokens own intervals by falling logit, ties by id.
double distance_from_interval(const std::vector<double>& logits, const Options& options,
                              double drawn, int32_t token) {
  std::vector<size_t> ids(logits.size());
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = i;
  std::stable_sort(ids.begin(), ids.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(ids.size())) {
    const double kth = logits[ids[static_cast<size_t>(options.top_k - 1)]];
    while (logits[ids.back()] < kth) ids.pop_back();
  }
  std::vector<double> ends;  // of the intervals
  double mass = 0;
  for (size_t id : ids) {
    mass += std::exp((logits[id] - logits[ids[0]]) / options.temperature);
    ends.push_back(mass);
  }
  size_t kept = 1;
  while (kept < ids.size() && ends[kept - 1] < options.top_p * mass) ++kept;
  if (options.top_p >= 1) kept = ids.size();
  while (kept > 1 &&
         std::exp((logits[ids[kept - 1]] - logits[ids[0]]) / options.temperature) < options.min_p)
    --kept;
  const double all = ends[kept - 1], at = drawn * all;
  for (size_t i = 0; i < kept; ++i) {
    if (ids[i] != static_cast<size_t>(token)) continue;
    const double begin = i == 0 ? 0 : ends[i - 1];
    return std::max({begin - at, at - ends[i], 0.0}) / all;
  }
  return INFINITY;
}

int32_t sample(const KernelTable* table, const GuardedArray& logits, const Options& options,
               const RandomStream& random = {}, uint64_t position = 0) {
  PlacedArray<int32_t> token({-2});
  table->sample({.logits = floats(logits),
                 .token = token.data(),
                 .vocabulary = logits.count(),
                 .top_k = options.top_k,
                 .temperature = options.temperature,
                 .top_p = options.top_p,
                 .min_p = options.min_p,
                 .random = random,
                 .position = position});
  return token[0];
}

}  // namespace

TEST_CASE("sample without temperature takes the greatest logit, the first of equals", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t vocabulary : {1, 2, 31, 32, 33, 1023, 1025, 5003}) {
      CAPTURE(target.name, vocabulary);
      GuardedArray logits(DType::kF32, random_values(vocabulary, 1, -5, 3));
      for (int64_t at : {vocabulary - 1, vocabulary / 2, int64_t{0}}) {
        logits.set(at, 4);  // from the last to the first
        CHECK(sample(table, logits, {.temperature = 0}) == at);
      }
    }
    const GuardedArray zeros(DType::kF32, {-1.0f, -0.0f, 0.0f, -INFINITY});
    CHECK(sample(table, zeros, {.temperature = 0}) == 1);
    const GuardedArray infinities(DType::kF32, {-INFINITY, -INFINITY, -INFINITY});
    CHECK(sample(table, infinities, {.temperature = 0}) == 0);
  }
}

TEST_CASE("sample draws the token whose share of the mass holds the random number", "[kernels]") {
  const Options choices[] = {{.temperature = 1},
                             {.temperature = 0.3},
                             {.temperature = 2, .top_k = 5},
                             {.temperature = 1.5, .top_k = 40, .top_p = 0.7},
                             {.temperature = 1, .top_p = 0.9},
                             {.temperature = 3, .top_p = 0.2},
                             {.temperature = 1, .top_p = 0},
                             {.temperature = 1, .top_k = 1 << 30},
                             {.temperature = 1, .min_p = 0.05},
                             {.temperature = 2, .top_k = 30, .top_p = 0.8, .min_p = 0.3},
                             {.temperature = 1, .top_p = 0.97, .min_p = 0.01},
                             {.temperature = 0.01},
                             {.temperature = 1, .min_p = 1}};
  const RandomStream random = {.seed = 0x123456789abcdefull, .purpose = 5, .step = 2};
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t vocabulary : {1, 2, 7, 255, 256, 257, 511, 513, 1500, 4097, 9001}) {
      // CPUs weigh pieces of 4096; no card's kernel does, and the harness would take minutes.
      if (vocabulary > 4096 && target.place.memory != nullptr) continue;
      // In steps of 1/4, so that many are equal; or nearly all different.
      for (float steps : {4.0f, 1e6f}) {
        std::vector<float> values = random_values(vocabulary, 3, -4, 4);
        for (float& v : values) v = std::round(v * steps) / steps;
        const GuardedArray logits(DType::kF32, values);
        uint64_t position = 0;
        for (const Options& options : choices) {
          for (int draw = 0; draw < 3; ++draw, ++position) {
            CAPTURE(target.name, vocabulary, steps, options.temperature, options.top_k,
                    options.top_p, position);
            const PhiloxBlock words = philox_block(random, position);
            const double drawn = words.word[0] * 0x1p-32 + words.word[1] * 0x1p-64;
            const int32_t token = sample(table, logits, options, random, position);
            // Sums of V doubles, twice; a token beside the right one is right so close to its end.
            CHECK(distance_from_interval(logits.values(), options, drawn, token) <=
                  static_cast<double>(vocabulary) * 0x1p-51);
          }
        }
      }
    }
  }
}

TEST_CASE("sample with top-p keeps no more tokens than it takes to reach p exactly", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    const GuardedArray equal(DType::kF32, std::vector<float>(4, 0.5f));
    for (uint64_t position = 0; position < 16; ++position)
      CHECK(sample(table, equal, {.temperature = 1, .top_p = 0.5}, {}, position) < 2);
  }
}

TEST_CASE("sample says so when a logit is not a number, and never draws what has no mass",
          "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    for (int64_t vocabulary : {1, 300, 700}) {
      for (int64_t at : {int64_t{0}, vocabulary - 1}) {
        CAPTURE(target.name, vocabulary, at);
        GuardedArray logits(DType::kF32,
                            std::vector<float>(static_cast<size_t>(vocabulary), -INFINITY));
        logits.set(at, -3);
        CHECK(sample(table, logits, {.temperature = 1}) == at);
        CHECK(sample(table, logits, {.temperature = 1, .top_k = 2, .top_p = 0.5}) == at);
        logits.set(vocabulary / 2, -NAN);
        CHECK(sample(table, logits, {.temperature = 0}) == -1);
        CHECK(sample(table, logits, {.temperature = 1}) == -1);
        logits.set(at, NAN);
        CHECK(sample(table, logits, {.temperature = 1, .top_k = 1}) == -1);
      }
    }
  }
}

TEST_CASE("repetition_penalty lowers what it names and nothing else", "[kernels]") {
  for (const Target& target : targets()) {
    const KernelTable* table = target.enter();
    CAPTURE(target.name);
    const std::vector<float> values = random_values(700, 5, -4, 4);
    GuardedArray logits(DType::kF32, values);
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < 700; id += 2) ids.push_back(id);
    const PlacedArray<int32_t> named(ids);
    table->repetition_penalty({.logits = floats(logits),
                               .ids = named.data(),
                               .count = static_cast<int64_t>(ids.size()),
                               .penalty = 1.3f});
    for (int64_t i = 0; i < 700; ++i) {
      const float before = values[static_cast<size_t>(i)];
      const float after = before < 0 ? before * 1.3f : before / 1.3f;
      CHECK(logits.get(i) == Approx(i % 2 == 0 ? after : before).epsilon(1e-6));
    }
    CHECK(logits.guards_intact());
    table->repetition_penalty({.logits = floats(logits), .ids = nullptr, .count = 0});
  }
}

}  // namespace tenon::test
