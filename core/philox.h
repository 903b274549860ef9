// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10, a counter-based random number generator (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC11). A number is a function of (seed, purpose, step, position) and of
// nothing else, so results do not depend on threads, ranks or micro-batches. Shared with kernels:
// `static constexpr` functions only (no symbol to be merged by the linker, callable on a device).
#pragma once

#include <cstdint>

namespace tenon {

// One stream of random 32-bit words. Word number `position` of the stream is lane (position % 4) of
// the Philox block with key = seed and counter = {position / 4 low, position / 4 high, step,
// purpose}.
struct RandomStream {
  uint64_t seed = 0;
  uint32_t purpose = 0;  // which use: a dropout site, weight init, shuffling, sampling
  uint32_t step = 0;     // optimizer step, so that masks differ from step to step
};

struct PhiloxBlock {
  uint32_t word[4];
};

static constexpr PhiloxBlock philox_block(RandomStream stream, uint64_t block) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = stream.step, c3 = stream.purpose;
  uint32_t k0 = static_cast<uint32_t>(stream.seed), k1 = static_cast<uint32_t>(stream.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

static constexpr uint32_t philox_word(RandomStream stream, uint64_t position) {
  return philox_block(stream, position / 4).word[position % 4];
}

// Dropout keeps an element exactly when its word is at or above this threshold; p in [0, 1).
static constexpr uint32_t dropout_threshold(float p) {
  return static_cast<uint32_t>(static_cast<double>(p) * 4294967296.0);
}

// A number in [0, 1) with 24 bits, from one word.
static constexpr float uniform_from(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

}  // namespace tenon
