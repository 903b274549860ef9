// SPDX-License-Identifier: Apache-2.0
// What `tenon bench` was told.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "core/device.h"
#include "core/dtype.h"

namespace tenon::bench {

struct Options {
  std::string group;                // "gemm", ..., "all"
  std::vector<std::string> shapes;  // in place of the group's own
  std::vector<DType> dtypes = {DType::kF32};
  std::vector<std::string> only;   // lines whose text holds one of these words; empty: all
  std::vector<std::string> peers;  // by name; empty: all that there are
  Device device = Device::kCPU;
  Patience patience;
  bool json = false;
  bool in_cache = false;  // rows: at the sizes of a training step

  std::string model;  // decode, step

  // decode
  int64_t texts = 1, prompt = 128, tokens = 32;

  // step
  int64_t rank = 8, batch = 4, seq_len = 512, steps = 5;
  std::vector<std::string> targets;
  bool full = false, profile = false;
  double scored = 1;

  // Whether a line with this text was asked for.
  bool wants(const std::string& text) const;
};

// The extents of a --shape, in the order of the groups of the regular expression `pattern`; those
// that are left out are "". Throws Error(kInput) with `expected`, such as "MxNxK[:NN|NT|TN]".
std::vector<std::string> match_shape(const std::string& text, const char* pattern,
                                     const char* expected);
// A matched extent; `absent` for "".
int64_t extent(const std::string& word, int64_t absent = 1);

}  // namespace tenon::bench
