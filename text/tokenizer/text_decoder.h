// SPDX-License-Identifier: Apache-2.0
// From tokens back to text, token by token: what is given out never ends inside a character, and
// joined it is what decoding all tokens at once gives.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tenon {

// One text in the making.
class TextDecoder {
 public:
  virtual ~TextDecoder() = default;
  // Appends to `out` what is certain with this token.
  virtual void push(int32_t id, std::string& out) = 0;
  // Appends what is left. Called once, at the end.
  virtual void finish(std::string& out) = 0;
};

// What a decoder sees of a token: its bytes, or its text in the vocabulary.
using TokenText = std::function<std::string_view(int32_t)>;

// Tokens are bytes of UTF-8, joined; what is invalid becomes U+FFFD, one for each maximal part.
std::unique_ptr<TextDecoder> make_utf8_decoder(TokenText bytes);

// The byte that a token such as "<0x0A>" stands for, or -1.
int byte_of_token(std::string_view token);

// The steps of a tokenizer.json's `decoder`. kJoin is what no decoder at all does: a space between
// two tokens.
struct DecoderStep {
  enum Kind {
    kJoin,
    kByteLevel,
    kReplace,
    kReplaceRegex,
    kByteFallback,
    kFuse,
    kStrip,
    kMetaspace
  };
  Kind kind = kJoin;
  std::string place;           // kReplace, kReplaceRegex: file and field, for messages
  std::string pattern;         // kReplace, kReplaceRegex; kMetaspace: stands for a space
  std::string content;         // comes in its place; kStrip: the one character that is stripped
  size_t left = 0, right = 0;  // kStrip: at most so many, at the ends of each token
  bool drop_first = true;      // kMetaspace: the first token loses its spaces
};

// A decoder of these steps, in order. Throws Error(kInput) for a pattern that cannot be used.
std::unique_ptr<TextDecoder> make_decoder_chain(const std::vector<DecoderStep>& steps,
                                                TokenText text);

}  // namespace tenon
