// SPDX-License-Identifier: Apache-2.0
#include "text/data/row_order.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace tenon {
namespace {

constexpr uint32_t kOrderPurpose = 0x4F524452;  // "ORDR": apart from every other use of the seed

// Whole numbers below a bound, drawn one after the other from a stream.
class Draws {
 public:
  explicit Draws(RandomStream stream) : stream_(stream) {}

  // Uniform in [0, bound), without the bias of a remainder (Lemire, "Fast random integer generation
  // in an interval"): the high word of bound * word, where the few words that would make some
  // results likelier are drawn again.
  uint32_t below(uint32_t bound) {
    const uint32_t unfair = -bound % bound;  // 2^32 mod bound
    for (;;) {
      const uint64_t product = static_cast<uint64_t>(philox_word(stream_, position_++)) * bound;
      if (static_cast<uint32_t>(product) >= unfair) return static_cast<uint32_t>(product >> 32);
    }
  }

 private:
  RandomStream stream_;
  uint64_t position_ = 0;
};

}  // namespace

std::vector<int64_t> permutation(int64_t count, RandomStream stream) {
  TENON_CHECK(count >= 0 && count <= UINT32_MAX, "[row order] expected a count below 2^32, got {}",
              count);
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  Draws draws(stream);
  for (int64_t i = count - 1; i > 0; --i) {
    std::swap(order[i], order[draws.below(static_cast<uint32_t>(i + 1))]);
  }
  return order;
}

RowOrder::RowOrder(int64_t rows, int64_t batch, uint64_t seed, bool shuffle)
    : rows_(rows), batch_(batch), seed_(seed), shuffle_(shuffle) {
  TENON_CHECK(rows > 0 && batch > 0, "[row order] expected rows and a batch, got {} and {}", rows,
              batch);
}

std::span<const int64_t> RowOrder::rows_of_step(int64_t step) {
  const int64_t epoch = epoch_of(step), first = step % steps_per_epoch() * batch_;
  if (!shuffle_ && order_.empty()) {
    order_.resize(static_cast<size_t>(rows_));
    std::iota(order_.begin(), order_.end(), 0);
  } else if (shuffle_ && epoch != epoch_) {
    order_ = permutation(
        rows_, {.seed = seed_, .purpose = kOrderPurpose, .step = static_cast<uint32_t>(epoch)});
    epoch_ = epoch;
  }
  return std::span(order_).subspan(static_cast<size_t>(first),
                                   static_cast<size_t>(std::min(batch_, rows_ - first)));
}

std::span<const int64_t> rows_of_rank(std::span<const int64_t> rows, int64_t rank, int64_t ranks) {
  const auto count = static_cast<int64_t>(rows.size());
  const int64_t begin = rank * count / ranks, end = (rank + 1) * count / ranks;
  return rows.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

}  // namespace tenon
