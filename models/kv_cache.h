// SPDX-License-Identifier: Apache-2.0
// The keys and values of tokens that a model has seen, in pages of kPageTokens tokens: the memory of
// a text follows its length, and a batch is a list of texts whose pages lie anywhere.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/ops.h"

namespace tenon {

// Those of one text.
struct KvPages {
  std::vector<Tensor>
      pages;           // (blocks, 2, kPageTokens, G D) each: keys, then values, of each block
  int64_t tokens = 0;  // that are in them
};

// What the blocks of a model see of the texts of a batch.
class KvCache {
 public:
  // `channels`: G D, the width of a key; keys and values have the dtype of the activations.
  KvCache(int64_t blocks, int64_t channels, DType dtype, Device device);

  // The next forward pass takes `fresh` tokens more of each of these texts, row by row; they get
  // pages for them. The texts must live until end().
  void begin(std::vector<KvPages*> texts, int64_t fresh);
  // The pass is over: the texts have the tokens.
  void end();

  // Tokens of the longest text, with the fresh ones.
  int64_t longest() const;
  // What block i attends to and appends to. Valid until the next begin().
  CachedKeys block(int64_t i) const;

 private:
  int64_t blocks_, channels_;
  DType dtype_;
  Device device_;
  std::vector<KvPages*> texts_;
  int64_t fresh_ = 0;
  std::vector<int64_t> host_pages_;  // (B, P)
  std::vector<int32_t> host_past_;   // (B)
  Tensor pages_, past_;              // the same, on the device
};

}  // namespace tenon
