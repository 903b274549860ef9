// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding proper: a word's symbols are merged pair by pair, the pair of lowest rank
// first and the leftmost of equals, until no known pair is left. The time is n log n in the length
// of the word, so a word may be a whole file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// The table of merges: (left, right) -> (rank, id of the merged symbol).
class MergeTable {
 public:
  struct Merge {
    int32_t rank = -1;  // -1: the two do not merge
    int32_t id = 0;
  };

  // Room for `count` merges.
  explicit MergeTable(size_t count);
  // Merges are added by ascending rank; a pair that comes again takes the later rank (as Hugging
  // Face does).
  void add(int32_t left, int32_t right, Merge merge);
  Merge find(int32_t left, int32_t right) const;

  // Appends the ids of the word that begins as `symbols`.
  void encode(std::span<const int32_t> symbols, std::vector<int32_t>& out) const;

 private:
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~0ull;  // no pair: ids are not negative

  void encode_short(std::span<const int32_t> symbols, std::vector<int32_t>& out) const;
  void encode_long(std::span<const int32_t> symbols, std::vector<int32_t>& out) const;
  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // open addressing, at most half full
};

// Remembers the ids of words, since most words of a text come again. Bounded: it forgets everything
// when full.
class WordCache {
 public:
  WordCache();
  // The ids of `word`, or nothing; valid until the next call of insert().
  const std::vector<int32_t>* find(std::string_view word) const;
  void insert(std::string_view word, std::span<const int32_t> ids);

  static constexpr size_t kLongestWord = 64;  // longer ones are rarely seen twice

 private:
  struct Slot {
    uint64_t hash = 0;
    std::string word;  // empty: a free slot
    std::vector<int32_t> ids;
  };
  size_t slot_of(std::string_view word, uint64_t hash) const;

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace tenon
