// SPDX-License-Identifier: Apache-2.0
#include "core/arena.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace tenon {
namespace {

struct Block {
  unsigned char* data;
  int64_t bytes;
  unsigned char mark;
};

bool holds_its_mark(const Block& block) {
  for (int64_t i = 0; i < block.bytes; i += 61) {
    if (block.data[i] != block.mark) return false;
  }
  return block.data[block.bytes - 1] == block.mark;
}

}  // namespace

TEST_CASE("arena: blocks are aligned, apart and keep their bytes", "[core]") {
  Arena arena;
  std::mt19937 generator(1);
  std::vector<Block> live;
  for (int step = 0; step < 4000; ++step) {
    if (live.size() < 40 && generator() % 3 != 0) {
      const int64_t bytes = 64 * (1 + static_cast<int64_t>(generator() % 3000));
      Block block = {static_cast<unsigned char*>(arena.take(bytes)), bytes,
                     static_cast<unsigned char>(generator())};
      REQUIRE(block.data != nullptr);
      REQUIRE(reinterpret_cast<uintptr_t>(block.data) % 64 == 0);
      std::memset(block.data, block.mark, static_cast<size_t>(bytes));
      live.push_back(block);
    } else if (!live.empty()) {
      const size_t at = generator() % live.size();
      REQUIRE(holds_its_mark(live[at]));
      arena.give(live[at].data, live[at].bytes);
      live[at] = live.back();
      live.pop_back();
    }
  }
  for (const Block& block : live) {
    REQUIRE(holds_its_mark(block));
    arena.give(block.data, block.bytes);
  }
  CHECK(arena.segments_asked_for() == 1);
}

TEST_CASE("arena: neighbours that are given back serve a larger block", "[core]") {
  Arena arena;
  constexpr int64_t kPart = int64_t{1} << 16, kParts = 16;
  std::vector<void*> parts;
  for (int64_t i = 0; i < kParts; ++i) parts.push_back(arena.take(kPart));
  void* wall = arena.take(64);  // so that the parts are not joined with what was never used
  for (int64_t i = 0; i < kParts; i += 2) arena.give(parts[static_cast<size_t>(i)], kPart);
  for (int64_t i = 1; i < kParts; i += 2) arena.give(parts[static_cast<size_t>(i)], kPart);
  void* whole = arena.take(kParts * kPart);
  CHECK(whole == parts[0]);
  arena.give(whole, kParts * kPart);
  arena.give(wall, 64);
}

TEST_CASE("arena: the same requests again ask nothing of the system", "[core]") {
  Arena arena;
  int64_t asked = 0;
  for (int step = 0; step < 3; ++step) {
    std::vector<Block> live;
    for (int64_t i = 1; i <= 12; ++i) {
      const int64_t bytes = (int64_t{7} << 20) * i;
      live.push_back({static_cast<unsigned char*>(arena.take(bytes)), bytes, 0});
    }
    for (const Block& block : live) arena.give(block.data, block.bytes);
    if (step == 0) asked = arena.segments_asked_for();
    CHECK(arena.segments_asked_for() == asked);
  }
  CHECK(asked > 1);
  arena.trim();
  void* block = arena.take(64);
  CHECK(arena.segments_asked_for() == asked + 1);  // all had been given back
  arena.give(block, 64);
}

}  // namespace tenon
