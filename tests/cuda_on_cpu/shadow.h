// SPDX-License-Identifier: Apache-2.0
// The shadow of a stretch of shared memory: who wrote and read each byte last, so that two accesses
// with nothing between them to order them are found.
//
// Order comes from two sources. A block barrier begins a new phase: what lies in an earlier phase
// is before everything in this one. Within a phase and a warp, __syncwarp orders the lanes it
// names; each lane has a clock and knows the others' clocks as of when it last met them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace tenon::cuda_on_cpu {

// The threads' clocks. One for the shadows of a block.
class Order {
 public:
  Order() : known_(1024 * 32) {}

  void start_block(int threads);
  void block_barrier() { ++phase_; }
  void warp_barrier(int warp, unsigned lanes);

  uint32_t block() const { return block_; }
  uint32_t phase() const { return phase_; }
  // What `thread` knows of the clock of lane `lane` of its warp.
  uint32_t known(int thread, int lane) const { return known_[thread * 32 + lane]; }
  uint32_t clock(int thread) const { return known(thread, thread % 32); }

 private:
  std::vector<uint32_t> known_;  // (threads, 32)
  uint32_t block_ = 0, phase_ = 0;
};

enum class AccessKind : uint8_t { kRead, kWrite, kAtomic };

// What an access has against it. `other` is the thread that it collides with.
struct Conflict {
  enum Kind : uint8_t { kNone, kRace, kUnwritten, kInFlight } kind = kNone;
  int other = 0;
  AccessKind other_kind = AccessKind::kRead;
};

class Shadow {
 public:
  Shadow(uintptr_t begin, uint64_t bytes, const Order& order);

  bool holds(uintptr_t address) const { return address - begin_ < bytes_; }
  uintptr_t begin() const { return begin_; }

  // Notes the access and returns true, or returns false and sets `conflict`.
  // Requires: all bytes lie within.
  bool access(uintptr_t address, uint64_t bytes, AccessKind kind, int thread, Conflict& conflict);

  // A copy into these bytes is under way, or has landed. Requires: whole aligned words.
  void fly(uintptr_t address, uint64_t bytes, int thread);
  void land(uintptr_t address, uint64_t bytes, int thread);

 private:
  // What happened to a word, or to a byte of a split word, in the block of number `block`; phase 0
  // means never. Half a cache line.
  struct alignas(32) Cell {
    uint32_t block;
    uint32_t write_phase, write_clock;
    uint32_t read_phase, read_clock;
    uint32_t readers;  // lanes of `reader`'s warp that read at read_clock; or, with many_warps,
                       // a thread of another warp that read too
    uint16_t writer;   // or the thread whose copy is in flight
    uint16_t reader;
    bool atomic : 1, many_warps : 1, in_flight : 1, split : 1;
  };
  static_assert(sizeof(Cell) == 32);

  Cell& fresh(Cell& cell) const;
  bool read_again(Cell& cell, int thread) const;
  // As access does: true, or false and `conflict` set.
  bool touch(Cell& cell, AccessKind kind, int thread, Conflict& conflict) const;
  bool touch_bytes(uint64_t word, uint64_t first, uint64_t last, AccessKind kind, int thread,
                   Conflict& conflict);
  bool after_readers(const Cell& cell, int thread, Conflict& conflict) const;
  bool ordered(uint32_t phase, uint32_t clock, int other, int thread) const;
  void note_read(Cell& cell, int thread) const;

  uintptr_t begin_;
  uint64_t bytes_;
  const Order& order_;
  // Mapped, not filled: pages come into being as memory is touched.
  struct Unmap {
    uint64_t bytes;
    void operator()(Cell* cells) const;
  };
  static std::unique_ptr<Cell, Unmap> map(uint64_t cells);
  std::unique_ptr<Cell, Unmap> words_, single_bytes_;
};

}  // namespace tenon::cuda_on_cpu
