// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_on_cpu/shadow.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

namespace tenon::cuda_on_cpu {

void Order::start_block(int threads) {
  ++block_;
  ++phase_;
  std::fill_n(known_.begin(), threads * 32, 0);
  for (int thread = 0; thread < threads; ++thread) known_[thread * 32 + thread % 32] = 1;
}

void Order::warp_barrier(int warp, unsigned lanes) {
  uint32_t latest[32] = {};
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const uint32_t* known = &known_[(warp * 32 + std::countr_zero(rest)) * 32];
    for (int lane = 0; lane < 32; ++lane) latest[lane] = std::max(latest[lane], known[lane]);
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    uint32_t* known = &known_[(warp * 32 + lane) * 32];
    std::copy_n(latest, 32, known);
    ++known[lane];
  }
}

void Shadow::Unmap::operator()(Cell* cells) const { munmap(cells, bytes); }

std::unique_ptr<Shadow::Cell, Shadow::Unmap> Shadow::map(uint64_t cells) {
  const uint64_t bytes = cells * sizeof(Cell);
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  return {static_cast<Cell*>(block), Unmap{bytes}};
}

Shadow::Shadow(uintptr_t begin, uint64_t bytes, const Order& order)
    : begin_(begin & ~uintptr_t{15}),
      bytes_(bytes + (begin & 15)),
      order_(order),
      words_(map(bytes_ / 4 + 1)),
      single_bytes_(map(bytes_ + 4)) {}

inline Shadow::Cell& Shadow::fresh(Cell& cell) const {
  if (cell.block != order_.block()) {
    cell = {};
    cell.block = order_.block();
  }
  return cell;
}

// Whether `other`'s access at (phase, clock) is before what `thread` does now.
inline bool Shadow::ordered(uint32_t phase, uint32_t clock, int other, int thread) const {
  return phase != order_.phase() || other == thread ||
         (other / 32 == thread / 32 && order_.known(thread, other % 32) >= clock);
}

bool Shadow::after_readers(const Cell& cell, int thread, Conflict& conflict) const {
  if (cell.read_phase != order_.phase()) return true;
  if (cell.many_warps || cell.reader / 32 != thread / 32) {
    const bool same_warp = cell.reader / 32 == thread / 32;
    const int other = same_warp ? static_cast<int>(cell.readers) : cell.reader;
    conflict = {Conflict::kRace, other, AccessKind::kRead};
    return false;
  }
  for (unsigned rest = cell.readers; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (lane != thread % 32 && order_.known(thread, lane) < cell.read_clock) {
      conflict = {Conflict::kRace, thread / 32 * 32 + lane, AccessKind::kRead};
      return false;
    }
  }
  return true;
}

void Shadow::note_read(Cell& cell, int thread) const {
  if (cell.read_phase == order_.phase() && cell.many_warps) return;
  const uint32_t clock = order_.clock(thread), bit = 1u << (thread % 32);
  const auto replace = [&] {
    cell.read_phase = order_.phase();
    cell.read_clock = clock;
    cell.reader = static_cast<uint16_t>(thread);
    cell.readers = bit;
    cell.many_warps = false;
  };
  if (cell.read_phase != order_.phase()) return replace();
  if (cell.reader / 32 != thread / 32) {
    cell.many_warps = true;
    cell.readers = static_cast<uint32_t>(thread);
    return;
  }
  if (clock == cell.read_clock) {
    cell.readers |= bit;
    return;
  }
  // Reads that are before this one need not be remembered: who is after this one is after them.
  // Otherwise the set keeps its earliest clock, which may miss a race but invents none.
  Conflict unused;
  if (after_readers(cell, thread, unused)) return replace();
  cell.readers |= bit;
  cell.read_clock = std::min(cell.read_clock, clock);
}

bool Shadow::touch(Cell& cell, AccessKind kind, int thread, Conflict& conflict) const {
  const bool written = cell.write_phase != 0;
  if (cell.in_flight) {
    conflict = {Conflict::kInFlight, cell.writer, AccessKind::kWrite};
    return false;
  }
  if (!written && kind != AccessKind::kWrite) {
    conflict = {Conflict::kUnwritten, 0, kind};
    return false;
  }
  if (written && !(kind == AccessKind::kAtomic && cell.atomic) &&
      !ordered(cell.write_phase, cell.write_clock, cell.writer, thread)) {
    conflict = {Conflict::kRace, cell.writer,
                cell.atomic ? AccessKind::kAtomic : AccessKind::kWrite};
    return false;
  }
  if (kind == AccessKind::kRead) {
    note_read(cell, thread);
    return true;
  }
  if (!after_readers(cell, thread, conflict)) return false;
  cell.write_phase = order_.phase();
  cell.write_clock = order_.clock(thread);
  cell.writer = static_cast<uint16_t>(thread);
  cell.atomic = kind == AccessKind::kAtomic;
  cell.read_phase = 0;
  return true;
}

// Bytes [first, last) of a word, each with its own cell.
bool Shadow::touch_bytes(uint64_t word, uint64_t first, uint64_t last, AccessKind kind, int thread,
                         Conflict& conflict) {
  Cell& whole = fresh(words_.get()[word]);
  Cell* cells = single_bytes_.get() + word * 4;
  if (!whole.split) {
    std::fill_n(cells, 4, whole);
    whole.split = true;
  }
  for (uint64_t i = first; i < last; ++i)
    if (!touch(cells[i], kind, thread, conflict)) return false;
  // A word that is written as a whole is one again.
  if (first == 0 && last == 4 && kind != AccessKind::kRead) {
    whole = cells[0];
    whole.split = false;
  }
  return true;
}

// Reads of what an earlier phase wrote, by a warp that has read it already or by more than one:
// most of all accesses. Notes the read and returns true, or returns false and leaves the cell
// alone.
inline bool Shadow::read_again(Cell& cell, int thread) const {
  const uint32_t phase = order_.phase();
  if (cell.block != order_.block() || cell.split || cell.in_flight || cell.write_phase == 0 ||
      cell.write_phase == phase || cell.read_phase != phase)
    return false;
  if (cell.many_warps) return true;
  if (cell.reader / 32 != thread / 32 || cell.read_clock != order_.clock(thread)) return false;
  cell.readers |= 1u << (thread % 32);
  return true;
}

bool Shadow::access(uintptr_t address, uint64_t bytes, AccessKind kind, int thread,
                    Conflict& conflict) {
  const uint64_t begin = address - begin_, end = begin + bytes;
  for (uint64_t word = begin / 4; word * 4 < end; ++word) {
    const uint64_t first = std::max(begin, word * 4) - word * 4;
    const uint64_t last = std::min(end, word * 4 + 4) - word * 4;
    Cell& whole = words_.get()[word];
    if (kind == AccessKind::kRead && last - first == 4 && read_again(whole, thread)) continue;
    const bool sound = last - first == 4 && !fresh(whole).split
                           ? touch(whole, kind, thread, conflict)
                           : touch_bytes(word, first, last, kind, thread, conflict);
    if (!sound) return false;
  }
  return true;
}

void Shadow::fly(uintptr_t address, uint64_t bytes, int thread) {
  for (uint64_t word = (address - begin_) / 4; word * 4 < address - begin_ + bytes; ++word) {
    Cell& cell = fresh(words_.get()[word]);
    cell.split = false;
    cell.in_flight = true;
    cell.writer = static_cast<uint16_t>(thread);
  }
}

void Shadow::land(uintptr_t address, uint64_t bytes, int thread) {
  for (uint64_t word = (address - begin_) / 4; word * 4 < address - begin_ + bytes; ++word) {
    Cell& cell = fresh(words_.get()[word]);
    cell.in_flight = false;
    cell.write_phase = order_.phase();
    cell.write_clock = order_.clock(thread);
    cell.writer = static_cast<uint16_t>(thread);
    cell.atomic = false;
    cell.read_phase = 0;
  }
}

}  // namespace tenon::cuda_on_cpu
