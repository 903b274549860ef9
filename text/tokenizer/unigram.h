// SPDX-License-Identifier: Apache-2.0
// The segmentation of a unigram model: of all ways to cut a text into pieces the one whose scores
// sum up highest. libsentencepiece does this too, but releases before 0.2 compare sums of double
// precision with rounded ones, and so cut differently where two ways are equally good.
#pragma once

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer/sentencepiece_model.h"

namespace tenon {

class Unigram {
 public:
  // The model must outlive it.
  explicit Unigram(const SentencePieceModel& model);
  // Appends the ids of a text as the library's normalizer leaves it, and where in it they begin.
  // Requires: valid UTF-8.
  void encode(std::string_view normalized, std::vector<int32_t>& out,
              std::vector<size_t>& begins) const;

 private:
  struct Known {
    int32_t id;
    float score;
  };
  std::unordered_map<std::string_view, Known> known_;
  size_t longest_ = 0;  // bytes
  float unknown_score_;
  int32_t unknown_ = 0;
  bool byte_fallback_;
  int32_t byte_id_[256] = {};
};

}  // namespace tenon
