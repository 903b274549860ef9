// SPDX-License-Identifier: Apache-2.0
// A base that is larger than memory: its blocks' weights lie in mapped files, and each block's pages
// are mapped in one go before it runs and let go when it has run, forward and backward. So two
// blocks' worth are resident at a time. What the run owns, such as weights that were converted when
// they were read, stays.
#pragma once

#include <cstdint>
#include <vector>

#include "models/model.h"

namespace tenon {

class BaseStream {
 public:
  // Looks at where the frozen weights lie: all are read, and none may move any more.
  explicit BaseStream(Model& model);

  // Block i is about to run, and then block `next`, where there is one.
  void begin(int64_t i, int64_t next) const;
  void end(int64_t i) const;

  // Bytes of mapped weights in the largest block, and in all of them; 0: nothing is streamed.
  int64_t largest_block() const;
  int64_t bytes() const;

 private:
  struct Range {
    const void* data;
    int64_t bytes;
  };
  static int64_t bytes_of(const std::vector<Range>& ranges);
  std::vector<std::vector<Range>> blocks_;
};

}  // namespace tenon
