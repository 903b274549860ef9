// SPDX-License-Identifier: Apache-2.0
// Ranks as threads of this process: every strategy can be tested without a launcher.
//
//   const std::vector<double> losses = on_ranks(3, [&](Communicator& world) { return train(world);
//   });
//
// A rank that throws, or returns while others wait for it, makes these throw Error(kPeer) at once;
// nothing hangs.
#pragma once

#include <functional>
#include <type_traits>
#include <vector>

#include "comm/communicator.h"

namespace tenon {

// Runs fn(world) on `ranks` threads and waits for all. Rethrows the error that came first. The
// calling thread's share of cores (thread_count) is divided among the ranks, and its choice of
// kernels holds for them. Requires: ranks >= 1.
void run_ranks(int ranks, const std::function<void(Communicator&)>& fn);

// The same; gives back what each rank returned, by rank.
template <class Fn>
auto on_ranks(int ranks, Fn&& fn) {
  using Result = std::invoke_result_t<Fn&, Communicator&>;
  if constexpr (std::is_void_v<Result>) {
    run_ranks(ranks, fn);
  } else {
    static_assert(!std::is_same_v<Result, bool>,
                  "the elements of vector<bool> share bytes: return int");
    std::vector<Result> results(static_cast<size_t>(ranks));
    run_ranks(ranks,
              [&](Communicator& world) { results[static_cast<size_t>(world.rank())] = fn(world); });
    return results;
  }
}

}  // namespace tenon
