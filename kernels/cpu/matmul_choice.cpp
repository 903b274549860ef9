// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/matmul_choice.h"

#include <array>
#include <bit>
#include <chrono>
#include <map>
#include <mutex>
#include <vector>

namespace tenon::cpu {
namespace {

// Timed runs of each tile; the shortest counts.
constexpr int kRuns = 2;
// Products with fewer multiplications (about 0.1 ms) take the first tile: reading the clock would
// tell little about them.
constexpr int64_t kWorthTiming = int64_t{1} << 22;

using Key = std::array<uint64_t, 5>;

struct Class {
  std::vector<double> seconds;  // by tile: the shortest so far, per multiplication
  int begun = 0;                // timed runs that were given out
  int ended = 0;
  int best = 0;
};

std::mutex mutex;

std::map<Key, Class>& classes() {
  static auto* all = new std::map<Key, Class>;
  return *all;
}

uint64_t bits(int64_t size) {
  return static_cast<uint64_t>(std::bit_width(static_cast<uint64_t>(size)));
}

Key key_of(const ProductClass& p) {
  return {reinterpret_cast<uintptr_t>(p.table),
          static_cast<uint64_t>(p.unit_steps * 4 + p.a_transposed * 2 + p.b_transposed), bits(p.m),
          bits(p.n), bits(p.k)};
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

TileChoice::TileChoice(const ProductClass& product, int tiles) : product_(product) {
  if (tiles == 1 || product.m * product.n * product.k < kWorthTiming) return;
  const std::lock_guard lock(mutex);
  Class& c = classes()[key_of(product)];
  if (c.begun == kRuns * tiles) {
    tile_ = c.best;
    return;
  }
  if (c.seconds.empty()) c.seconds.assign(static_cast<size_t>(tiles), 1e30);
  tile_ = c.begun++ % tiles;
  begin_ = now();
}

void TileChoice::done() {
  if (begin_ < 0) return;
  const double seconds = (now() - begin_) / static_cast<double>(product_.m * product_.n) /
                         static_cast<double>(product_.k);
  const std::lock_guard lock(mutex);
  Class& c = classes()[key_of(product_)];
  double& shortest = c.seconds[static_cast<size_t>(tile_)];
  if (seconds < shortest) shortest = seconds;
  if (++c.ended < kRuns * static_cast<int>(c.seconds.size())) return;
  for (size_t tile = 1; tile < c.seconds.size(); ++tile) {
    if (c.seconds[tile] < c.seconds[static_cast<size_t>(c.best)]) c.best = static_cast<int>(tile);
  }
}

}  // namespace tenon::cpu
