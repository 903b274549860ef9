// SPDX-License-Identifier: Apache-2.0
// Learns a byte-level BPE vocabulary from text, as GPT-2's was: words are split off first, then the
// most frequent pair of neighbouring symbols becomes a symbol, again and again (Sennrich et al.
// 2016, arXiv:1508.07909).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace world {

class BpeTrainer {
 public:
  // Counts the words of `text`. Requires: ASCII.
  void add(std::string_view text);
  // The text of a Hugging Face tokenizer.json: 256 bytes, merges, and last `end_of_text`; `size`
  // entries in all (fewer when no pair is left that occurs twice).
  std::string train(size_t size, const std::string& end_of_text) const;

 private:
  std::map<std::string, int64_t, std::less<>> words_;
};

}  // namespace world
