// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>

#include "core/error.h"

namespace tenon {
namespace {

// Up to here a scan over all pairs for each merge beats the heap.
constexpr size_t kShortWord = 32;
constexpr size_t kCachedWords = 1 << 16;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A symbol of a long word, in a list linked by index; a symbol that was merged into its left
// neighbour has id -1.
struct Symbol {
  int32_t id;
  int32_t previous, next;  // -1 at the ends
};

// A merge that was possible when it was queued. It still is if both ids are still there.
struct Candidate {
  int32_t rank;
  int32_t position;
  int32_t left, right, merged;
  bool operator>(const Candidate& other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

}  // namespace

MergeTable::MergeTable(size_t count) : slots_(std::bit_ceil(2 * count + 2)) {}

size_t MergeTable::slot_of(uint64_t pair) const {
  const size_t mask = slots_.size() - 1;
  size_t i = (pair * 0x9E3779B97F4A7C15ull) >> 32 & mask;
  while (slots_[i].pair != pair && slots_[i].pair != kEmpty) i = (i + 1) & mask;
  return i;
}

void MergeTable::add(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = pair_of(left, right);
  slots_[slot_of(pair)] = {pair, merge};
}

MergeTable::Merge MergeTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(pair_of(left, right))].merge;
}

void MergeTable::encode(std::span<const int32_t> symbols, std::vector<int32_t>& out) const {
  if (symbols.size() <= kShortWord) {
    encode_short(symbols, out);
  } else {
    encode_long(symbols, out);
  }
}

void MergeTable::encode_short(std::span<const int32_t> symbols, std::vector<int32_t>& out) const {
  int32_t ids[kShortWord];
  Merge merges[kShortWord];  // of symbol i with its right neighbour
  size_t count = symbols.size();
  std::copy(symbols.begin(), symbols.end(), ids);
  for (size_t i = 0; i + 1 < count; ++i) merges[i] = find(ids[i], ids[i + 1]);
  while (count > 1) {
    size_t best = count;
    int32_t best_rank = std::numeric_limits<int32_t>::max();
    for (size_t i = 0; i + 1 < count; ++i) {
      if (merges[i].rank >= 0 && merges[i].rank < best_rank) {
        best = i;
        best_rank = merges[i].rank;
      }
    }
    if (best == count) break;
    ids[best] = merges[best].id;
    std::copy(ids + best + 2, ids + count, ids + best + 1);
    std::copy(merges + best + 2, merges + count, merges + best + 1);
    --count;
    if (best > 0) merges[best - 1] = find(ids[best - 1], ids[best]);
    if (best + 1 < count) merges[best] = find(ids[best], ids[best + 1]);
  }
  out.insert(out.end(), ids, ids + count);
}

void MergeTable::encode_long(std::span<const int32_t> symbols, std::vector<int32_t>& out) const {
  TENON_CHECK(symbols.size() <= INT32_MAX, "[bpe] expected a word below 2 GiB, got {} bytes",
              symbols.size());
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<Symbol> word(symbols.size());
  for (int32_t i = 0; i < count; ++i) word[i] = {symbols[i], i - 1, i + 1 < count ? i + 1 : -1};

  std::vector<Candidate> candidates;
  const auto candidate_at = [&](int32_t position, auto&& take) {
    const int32_t next = position < 0 ? -1 : word[position].next;
    if (next < 0) return;
    const Merge merge = find(word[position].id, word[next].id);
    if (merge.rank >= 0)
      take(Candidate{merge.rank, position, word[position].id, word[next].id, merge.id});
  };
  for (int32_t i = 0; i < count; ++i)
    candidate_at(i, [&](const Candidate& c) { candidates.push_back(c); });
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(
      std::greater<>(), std::move(candidates));

  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = word[top.position];
    if (left.id != top.left || left.next < 0 || word[left.next].id != top.right) continue;
    Symbol& right = word[left.next];
    left.id = top.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) word[left.next].previous = top.position;
    const auto push = [&](const Candidate& c) { queue.push(c); };
    candidate_at(left.previous, push);
    candidate_at(top.position, push);
  }
  for (int32_t i = 0; i >= 0; i = word[i].next) out.push_back(word[i].id);
}

WordCache::WordCache() : slots_(2 * kCachedWords) {}

size_t WordCache::slot_of(std::string_view word, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t i = hash & mask;
  while (!slots_[i].word.empty() && (slots_[i].hash != hash || slots_[i].word != word))
    i = (i + 1) & mask;
  return i;
}

const std::vector<int32_t>* WordCache::find(std::string_view word) const {
  const Slot& slot = slots_[slot_of(word, XXH3_64bits(word.data(), word.size()))];
  return slot.word.empty() ? nullptr : &slot.ids;
}

void WordCache::insert(std::string_view word, std::span<const int32_t> ids) {
  if (used_ == kCachedWords) {
    slots_.assign(slots_.size(), {});
    used_ = 0;
  }
  const uint64_t hash = XXH3_64bits(word.data(), word.size());
  slots_[slot_of(word, hash)] = {hash, std::string(word), {ids.begin(), ids.end()}};
  ++used_;
}

}  // namespace tenon
