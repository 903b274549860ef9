// SPDX-License-Identifier: Apache-2.0
// Remembers the ids of words, since most words of a text come again. Of fixed size: a new word
// takes the place of one that hashes alike.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace tenon {

class WordCache {
 public:
  // Appends the ids of `word` to `out` and returns true, if they are remembered. `readable`: how
  // many bytes may be read from the word's first one on (the text goes on behind it).
  bool append(std::string_view word, size_t readable, std::vector<int32_t>& out) const {
    if (short_.fits(word) && short_.append(short_.key_of(word, readable), out)) return true;
    return long_.fits(word) && long_.append(long_.key_of(word, readable), out);
  }
  void insert(std::string_view word, std::span<const int32_t> ids) {
    if (ids.empty()) return;
    if (short_.fits(word) && short_.fits(ids)) {
      short_.insert(short_.key_of(word, word.size()), ids);
    } else if (long_.fits(word) && long_.fits(ids)) {
      long_.insert(long_.key_of(word, word.size()), ids);
    }
  }

 private:
  // Words of up to 8 * kKeyWords - 1 bytes and kMaxIds ids, in pairs of slots.
  template <size_t kKeyWords, size_t kMaxIds, size_t kPairs>
  class Table {
   public:
    struct Key {
      uint64_t words[kKeyWords] = {};  // the bytes, zeros, and in the last byte how many they are
      bool operator==(const Key&) const = default;
    };
    Table() : pairs_(kPairs) {}

    static bool fits(std::string_view word) { return word.size() < 8 * kKeyWords; }
    static bool fits(std::span<const int32_t> ids) { return ids.size() <= kMaxIds; }

    static Key key_of(std::string_view word, size_t readable) {
      Key key;
      if constexpr (kKeyWords == 2) {
        // Sixteen bytes at once, of which those behind the word are masked.
        if (readable >= sizeof key) {
          std::memcpy(key.words, word.data(), sizeof key);
          const size_t bits = 8 * word.size();
          const uint64_t low = ~0ull >> (-bits & 63);
          key.words[0] &= bits < 64 ? low : ~0ull;
          key.words[1] &= bits > 64 ? low : 0;
          key.words[1] |= static_cast<uint64_t>(word.size()) << 56;
          return key;
        }
      }
      std::memcpy(key.words, word.data(), word.size());
      key.words[kKeyWords - 1] |= static_cast<uint64_t>(word.size()) << 56;
      return key;
    }

    bool append(const Key& key, std::vector<int32_t>& out) const {
      for (const Slot& slot : pairs_[pair_of(key)].slots) {
        if (slot.key != key) continue;
        out.push_back(slot.ids[0]);
        for (size_t i = 1; i < kMaxIds && slot.ids[i] >= 0; ++i) out.push_back(slot.ids[i]);
        return true;
      }
      return false;
    }

    void insert(const Key& key, std::span<const int32_t> ids) {
      Pair& pair = pairs_[pair_of(key)];
      pair.slots[1] = pair.slots[0];  // the older of the two gives way
      pair.slots[0].key = key;
      std::fill(std::copy(ids.begin(), ids.end(), pair.slots[0].ids), pair.slots[0].ids + kMaxIds,
                -1);
    }

   private:
    struct Slot {
      Key key;               // no length: free
      int32_t ids[kMaxIds];  // -1 behind the last
    };
    struct alignas(64) Pair {
      Slot slots[2];
    };
    static size_t pair_of(const Key& key) {
      uint64_t hash = 0;
      for (const uint64_t word : key.words) {
        hash = (hash ^ word) * 0x9E3779B97F4A7C15ull;
        hash ^= hash >> 32;
      }
      return hash * 0x9E3779B97F4A7C15ull >> 32 & (kPairs - 1);
    }
    std::vector<Pair> pairs_;
  };

  // Nearly all words of plain text fit the first, two of whose slots share a cache line.
  Table<2, 4, 1 << 15> short_;
  Table<8, 16, 1 << 12> long_;
};

}  // namespace tenon
