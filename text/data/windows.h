// SPDX-License-Identifier: Apache-2.0
// A text longer than the model's context, as overlapping windows: the usual way to measure
// perplexity so that (nearly) every token has a long context. Windows of `length` tokens begin
// every `stride` tokens; in each of them only the tokens that no earlier window held are predicted,
// from those before them in the window. The first token of a text is not predicted; nor, with
// stride == length, the first of any window. The same as the Hugging Face guide "Perplexity of
// fixed-length models".
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/data/packing.h"

namespace tenon {

class StridedWindows {
 public:
  // Windows over each of `texts`, spans of the file. Throws Error(kInput) when there is nothing to
  // predict, and for a file in which some tokens are not to be predicted (prompts).
  // Requires: 1 <= stride <= length, length >= 2.
  StridedWindows(const TokenFile& file, std::span<const DocumentSpan> texts, int64_t length,
                 int64_t stride, int32_t pad_id);

  int64_t rows() const { return static_cast<int64_t>(windows_.size()); }
  // A row a window, without its last token, which is a target only.
  Batch batch(std::span<const int64_t> rows) const;

 private:
  struct Window {
    int64_t begin, end;    // tokens of the file
    int64_t first_target;  // predicted from here on
  };
  TokenFile file_;
  int32_t pad_id_;
  std::vector<Window> windows_;
};

}  // namespace tenon
