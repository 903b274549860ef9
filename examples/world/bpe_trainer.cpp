// SPDX-License-Identifier: Apache-2.0
#include "examples/world/bpe_trainer.h"

#include <nlohmann/json.hpp>

namespace world {
namespace {

using Json = nlohmann::ordered_json;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// What kind of run a character belongs to in GPT-2's pattern.
int kind(char c) { return is_letter(c) ? 0 : is_digit(c) ? 1 : is_space(c) ? 2 : 3; }

// The end of the piece that starts at `begin`: GPT-2's pattern
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+   for ASCII.
size_t piece_end(std::string_view text, size_t begin) {
  for (const std::string_view suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.substr(begin, suffix.size()) == suffix) return begin + suffix.size();
  }
  size_t at = begin;
  if (text[at] == ' ' && at + 1 < text.size() && !is_space(text[at + 1])) ++at;
  const int run = kind(text[at]);
  size_t end = at + 1;
  while (end < text.size() && kind(text[end]) == run) ++end;
  // White space leaves its last character to the word that follows, where it is not alone.
  if (run == 2 && end < text.size() && end - begin > 1) --end;
  return end;
}

// The printable character that stands for a byte in a byte-level vocabulary, as UTF-8.
std::vector<std::string> byte_characters() {
  std::vector<std::string> characters(256);
  int spare = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code = printable ? byte : spare++;
    if (code < 0x80) {
      characters[byte] = static_cast<char>(code);
    } else {
      characters[byte] = {static_cast<char>(0xC0 | (code >> 6)),
                          static_cast<char>(0x80 | (code & 0x3F))};
    }
  }
  return characters;
}

struct Word {
  std::vector<std::string> symbols;
  int64_t count = 0;
};
using Pair = std::pair<std::string, std::string>;

// The pair that occurs most often; of equals the first in alphabetical order. Count 0: no pair is
// left.
std::pair<Pair, int64_t> most_frequent(const std::vector<Word>& words) {
  std::map<Pair, int64_t> counts;
  for (const Word& word : words) {
    for (size_t i = 0; i + 1 < word.symbols.size(); ++i)
      counts[{word.symbols[i], word.symbols[i + 1]}] += word.count;
  }
  std::pair<Pair, int64_t> best{{}, 0};
  for (const auto& [pair, count] : counts) {
    if (count > best.second) best = {pair, count};
  }
  return best;
}

void merge(std::vector<Word>& words, const Pair& pair) {
  for (Word& word : words) {
    std::vector<std::string> merged;
    for (size_t i = 0; i < word.symbols.size(); ++i) {
      const bool here = i + 1 < word.symbols.size() && word.symbols[i] == pair.first &&
                        word.symbols[i + 1] == pair.second;
      merged.push_back(here ? pair.first + pair.second : word.symbols[i]);
      if (here) ++i;
    }
    word.symbols = std::move(merged);
  }
}

}  // namespace

void BpeTrainer::add(std::string_view text) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = piece_end(text, begin);
    const std::string_view piece = text.substr(begin, end - begin);
    if (auto found = words_.find(piece); found != words_.end()) {
      ++found->second;
    } else {
      words_.emplace(piece, 1);
    }
    begin = end;
  }
}

std::string BpeTrainer::train(size_t size, const std::string& end_of_text) const {
  const std::vector<std::string> characters = byte_characters();
  std::vector<Word> words;
  for (const auto& [text, count] : words_) {
    Word word{{}, count};
    for (const char c : text) word.symbols.push_back(characters[static_cast<unsigned char>(c)]);
    words.push_back(std::move(word));
  }

  Json vocabulary = Json::object(), merges = Json::array();
  for (const std::string& character : characters) vocabulary[character] = vocabulary.size();
  while (vocabulary.size() + 1 < size) {
    const auto [pair, count] = most_frequent(words);
    if (count < 2) break;
    merge(words, pair);
    merges.push_back(pair.first + " " + pair.second);
    // Two different merges may give the same string; the vocabulary has it once.
    if (!vocabulary.contains(pair.first + pair.second))
      vocabulary[pair.first + pair.second] = vocabulary.size();
  }
  const size_t end_id = vocabulary.size();
  vocabulary[end_of_text] = end_id;

  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", Json::array({{{"id", end_id},
                                                    {"content", end_of_text},
                                                    {"single_word", false},
                                                    {"lstrip", false},
                                                    {"rstrip", false},
                                                    {"normalized", false},
                                                    {"special", true}}})},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", byte_level},
                     {"decoder", byte_level},
                     {"model",
                      {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", nullptr},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", false},
                       {"vocab", vocabulary},
                       {"merges", merges}}}};
  return file.dump(1) + "\n";
}

}  // namespace world
