// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>

#include "core/error.h"

namespace tenon {
namespace {

// Up to here a scan over all pairs for each merge beats the heap.
constexpr size_t kShortWord = 32;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A symbol of a window, in a list linked by index; a symbol that was merged into its left
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

void MergeTable::encode(std::span<const int32_t> symbols, std::vector<int32_t>& out,
                        size_t window) const {
  if (symbols.size() <= kShortWord) {
    encode_short(symbols, out);
  } else {
    encode_long(symbols, window, out);
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

std::vector<MergeTable::Token> MergeTable::encode_window(std::span<const int32_t> symbols) const {
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
  std::vector<Token> tokens;
  for (int32_t i = 0; i >= 0 && i < count; i = word[i].next)
    tokens.push_back({word[i].id, static_cast<size_t>(i)});
  return tokens;
}

// Whether two tokens side by side are what their symbols alone give.
bool MergeTable::stand_together(const Token& left, const Token& right, size_t end,
                                std::span<const int32_t> symbols) const {
  const std::vector<Token> both = encode_window(symbols.subspan(left.begin, end - left.begin));
  return both.size() == 2 && both[0].id == left.id && both[1].id == right.id &&
         both[1].begin == right.begin - left.begin;
}

// A word is encoded right if each two tokens side by side are what their symbols alone give: merges
// on both sides of a place go the same way as in the whole until one crosses it, and the one that
// crosses first would cross it in the two tokens' symbols alone as well. So windows that overlap
// are joined where this holds for the two tokens at the seam; inside of a window it always does.
// Returns whether it held at all seams: the token behind one must not change when its window is
// widened later.
bool MergeTable::encode_in_windows(std::span<const int32_t> symbols, size_t window,
                                   std::vector<int32_t>& out) const {
  constexpr size_t kTries = 16;
  size_t length = window;
  std::vector<Token> tokens = encode_window(symbols.first(std::min(length, symbols.size())));
  for (bool first = true; symbols.size() > length;) {  // `tokens` are those of `length` symbols
    size_t keep = tokens.size();
    while (keep > 0 && tokens[keep - 1].begin > length - length / 4) --keep;
    std::vector<Token> following;
    bool joined = false;
    for (size_t tries = 0; tries < kTries && keep > 1 && !joined; ++tries) {
      const size_t seam = tokens[--keep].begin;
      const size_t size = std::min(window, symbols.size() - seam);
      following = encode_window(symbols.subspan(seam, size));
      const size_t end = seam + (following.size() > 1 ? following[1].begin : size);
      joined = stand_together(tokens[keep - 1], {following[0].id, seam}, end, symbols);
    }
    if (joined) {
      for (size_t i = 0; i < keep; ++i) out.push_back(tokens[i].id);
      symbols = symbols.subspan(tokens[keep].begin);
      length = window;
      tokens = std::move(following);
      first = false;
    } else {                          // no seam is good: a wider window
      const auto first_token = [&] {  // and where it ends
        return std::pair(tokens[0].id, tokens.size() > 1 ? tokens[1].begin : length);
      };
      const auto before = first_token();
      length = std::min(2 * length, symbols.size());
      tokens = encode_window(symbols.first(length));
      if (!first && first_token() != before) return false;
    }
  }
  for (const Token& token : tokens) out.push_back(token.id);
  return true;
}

void MergeTable::encode_long(std::span<const int32_t> symbols, size_t window,
                             std::vector<int32_t>& out) const {
  const size_t before = out.size();
  while (!encode_in_windows(symbols, window, out)) {
    out.resize(before);
    window *= 2;
  }
}

}  // namespace tenon
