// SPDX-License-Identifier: Apache-2.0
// Which rows an optimizer step takes: a permutation of all rows for each epoch, fixed by (seed,
// epoch), cut into steps, and each step cut into even slices for the ranks. Nothing here depends on
// how many ranks there are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/philox.h"

namespace tenon {

// 0 .. count - 1 in an order drawn from the stream, every order equally likely.
std::vector<int64_t> permutation(int64_t count, RandomStream stream);

class RowOrder {
 public:
  // Without `shuffle` every epoch takes the rows in their own order. Requires: rows > 0, batch > 0.
  RowOrder(int64_t rows, int64_t batch, uint64_t seed, bool shuffle = true);

  // The last step of an epoch takes what is left, so every row is taken once an epoch.
  int64_t steps_per_epoch() const { return (rows_ + batch_ - 1) / batch_; }
  int64_t epoch_of(int64_t step) const { return step / steps_per_epoch(); }
  // The rows of an optimizer step, steps counted over all epochs from 0. Valid until the next call.
  std::span<const int64_t> rows_of_step(int64_t step);

 private:
  int64_t rows_, batch_;
  uint64_t seed_;
  bool shuffle_;
  int64_t epoch_ = -1;  // that `order_` is of
  std::vector<int64_t> order_;
};

// The slice of a step's rows that rank `rank` of `ranks` takes; slices differ by at most one row,
// in rank order.
std::span<const int64_t> rows_of_rank(std::span<const int64_t> rows, int64_t rank, int64_t ranks);

}  // namespace tenon
