// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/bpe.h"

#include <catch2/catch.hpp>
#include <map>
#include <random>

#include "text/tokenizer/word_cache.h"

using namespace tenon;

namespace {

// The definition, in quadratic time: the pair of lowest rank is merged, the leftmost of equals.
struct PlainMerges {
  std::map<std::pair<int32_t, int32_t>, MergeTable::Merge> merges;

  std::vector<int32_t> encode(std::vector<int32_t> ids) const {
    for (;;) {
      size_t best = ids.size();
      MergeTable::Merge merge;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto found = merges.find({ids[i], ids[i + 1]});
        if (found == merges.end() || (best < ids.size() && found->second.rank >= merge.rank))
          continue;
        best = i;
        merge = found->second;
      }
      if (best == ids.size()) return ids;
      ids[best] = merge.id;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
  }
};

// Merges drawn at random over `symbols` first ids. Any two tokens may merge, and into a token that
// other merges give as well: no order of a trained vocabulary is kept.
struct RandomMerges {
  PlainMerges plain;
  MergeTable table;
  RandomMerges(int32_t symbols, int32_t count, uint64_t seed) : table(static_cast<size_t>(count)) {
    std::mt19937_64 random(seed);
    int32_t tokens = symbols;
    for (int32_t rank = 0; rank < count; ++rank) {
      const auto draw = [&] { return static_cast<int32_t>(random() % tokens); };
      const std::pair<int32_t, int32_t> pair = {draw(), draw()};
      const int32_t id = random() % 5 == 0 ? draw() : tokens;
      if (!plain.merges.try_emplace(pair, MergeTable::Merge{rank, id}).second) continue;
      table.add(pair.first, pair.second, {rank, id});
      tokens = std::max(tokens, id + 1);
    }
  }
};

}  // namespace

TEST_CASE("words of any length are merged as by the definition", "[bpe]") {
  std::mt19937_64 random(3);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const auto symbols = static_cast<int32_t>(1 + random() % 5);
    const RandomMerges merges(symbols, static_cast<int32_t>(1 + random() % 60), seed);
    for (const size_t length : {1, 2, 31, 32, 33, 400, 1500}) {
      std::vector<int32_t> word(length);
      for (int32_t& id : word) id = static_cast<int32_t>(random() % symbols);
      const std::vector<int32_t> expected = merges.plain.encode(word);
      // In windows of 6 what is cut off at the end often changes what stands before the seam.
      for (const size_t window : {6, 64}) {
        std::vector<int32_t> ids;
        merges.table.encode(word, ids, window);
        CAPTURE(seed, length, window);
        CHECK(ids == expected);
      }
    }
  }
}
