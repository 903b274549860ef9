// SPDX-License-Identifier: Apache-2.0
// Loops over elements on all threads, for code that is no kernel (kernels have vec.h's, which no file
// compiled for another instruction set shares).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/parallel_for.h"

namespace tenon {

// Calls body(begin, end) for pieces of at most `piece` of [0, count), on several threads.
template <class Body>
void for_pieces(int64_t count, int64_t piece, const Body& body) {
  struct Job {
    int64_t count, piece;
    const Body* body;
  } job{count, piece, &body};
  const auto run = [](void* context, int64_t chunk) {
    const Job& j = *static_cast<Job*>(context);
    const int64_t begin = chunk * j.piece;
    (*j.body)(begin, std::min(j.count, begin + j.piece));
  };
  parallel_for((count + piece - 1) / piece, run, &job);
}

// Makes `least` the value where that is smaller.
inline void keep_least(std::atomic<int64_t>& least, int64_t value) {
  int64_t now = least.load();
  while (value < now && !least.compare_exchange_weak(now, value)) {
  }
}

}  // namespace tenon
