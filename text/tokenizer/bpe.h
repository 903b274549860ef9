// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding proper: a word's symbols are merged pair by pair, the pair of lowest rank
// first and the leftmost of equals, until no known pair is left. The time is linear in the length
// of the word, and the memory besides input and output constant, so a word may be a whole file.
#pragma once

#include <cstdint>
#include <span>
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

  // Appends the ids of the word that begins as `symbols`. Longer words than `window` are merged in
  // windows of so many symbols; the ids do not depend on it.
  void encode(std::span<const int32_t> symbols, std::vector<int32_t>& out,
              size_t window = kWindow) const;
  static constexpr size_t kWindow = 1 << 12;  // its lists stay in the processor's cache

 private:
  struct Slot {
    uint64_t pair = kEmpty;
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~0ull;  // no pair: ids are not negative

  void encode_short(std::span<const int32_t> symbols, std::vector<int32_t>& out) const;
  struct Token {
    int32_t id;
    size_t begin;  // its first symbol
  };
  bool encode_in_windows(std::span<const int32_t> symbols, size_t window,
                         std::vector<int32_t>& out) const;
  void encode_long(std::span<const int32_t> symbols, size_t window,
                   std::vector<int32_t>& out) const;
  std::vector<Token> encode_window(std::span<const int32_t> symbols) const;
  bool stand_together(const Token& left, const Token& right, size_t end,
                      std::span<const int32_t> symbols) const;
  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // open addressing, at most half full
};

}  // namespace tenon
