// SPDX-License-Identifier: Apache-2.0
// A dry run, which tells what a run takes without taking it: while a Counting lives, its thread
// allocates on the host from an arena of its own, whose pages nobody touches; copies move nothing;
// kernels are called and ask for their scratch memory, but none of their chunks is run. So the bytes
// are those that the same calls take in earnest, to the last one, and they come in milliseconds.
//
//   Counting dry;
//   { build, load, place, take a step ... }  // all tensors of it go before `dry` does
//   dry.memory().peak();
//
// What the host writes element by element is written (ids, positions, tables); what is read of
// tensors that kernels make is undefined, mostly 0.
#pragma once

#include <cstdint>
#include <deque>

#include "core/arena.h"
#include "core/kernel_table.h"
#include "core/launch.h"
#include "core/memory.h"
#include "core/scratch.h"

namespace tenon {

// What a machine does in a second, to turn launches into time.
struct Rates {
  double operations = 0, bytes = 0;
};

class Counting {
 public:
  explicit Counting(Rates rates = {});
  ~Counting();
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;

  const MemoryAccount& memory() const { return account_; }
  // Bytes of addresses that tensors took at the most, with what lay idle between them.
  int64_t touched() { return arena_.touched(); }
  // The time of the launches so far by the rates: of each the longer one of computing and of moving.
  double seconds() const { return seconds_; }

  // For those who allocate.
  Arena& arena() { return arena_; }
  void reserve(int slot, int64_t bytes, int workers);
  void launched(const LaunchWork& work);

 private:
  Rates rates_;
  MemoryAccount account_;
  MemoryScope scope_;
  Arena arena_;
  Scratch scratch_;
  std::deque<Scratch> workers_;
  const KernelTable* table_;  // the thread's choice before
  double seconds_ = 0;
};

// The calling thread's, or null.
Counting* counting();

}  // namespace tenon
