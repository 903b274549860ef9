// SPDX-License-Identifier: Apache-2.0
// What a sentencepiece `tokenizer.model` holds (a protobuf message, sentencepiece_model.proto of
// google/sentencepiece), read and checked here so that the library is only given models that it can
// work with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace tenon {

struct SentencePieceModel {
  enum Type : uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6
  };
  enum Algorithm : uint8_t { kUnigram = 1, kBpe = 2 };
  struct Piece {
    std::string text;
    Type type = kNormal;
    float score = 0;
  };

  std::string bytes;  // the file, for the library
  std::vector<Piece> pieces;
  Algorithm algorithm = kUnigram;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  bool identity_normalizer = true;  // no character is rewritten but spaces
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  std::string unknown_surface = " \u2047 ";
  std::string bos = "<s>", eos = "</s>", pad = "<pad>";
  int64_t largest_id = -1;  // that the trainer's settings name
};

// Throws Error(kInput) naming the byte, or what is valid but not supported.
SentencePieceModel read_sentencepiece_model(const std::filesystem::path& path);

}  // namespace tenon
