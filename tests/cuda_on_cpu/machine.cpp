// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_on_cpu/machine.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace tenon::cuda_on_cpu {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constinit thread_local Worker* running = nullptr;

namespace {

constexpr size_t kGuardBytes = 4096;
// Stacks begin at different places of their pages; else all would want the same cache lines.
constexpr int kColours = 24;
constexpr size_t kColourBytes = 192;

// xorshift64* (Vigna 2016).
uint64_t next_random(uint64_t& state) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1dull;
}

// A fiber that runs over its stack has none left for the handler that says so.
void give_signal_stack() {
  stack_t present = {};
  if (sigaltstack(nullptr, &present) != 0 || (present.ss_flags & SS_DISABLE) == 0) return;
  static thread_local char bytes[32 * 1024];
  stack_t ours = {};
  ours.ss_sp = bytes;
  ours.ss_size = sizeof bytes;
  sigaltstack(&ours, nullptr);
}

}  // namespace

// All stacks are reserved at once, each above a page that nobody may touch.
Worker::Worker() : lanes(kMaxThreads), warps(kMaxThreads / kWarp) {
  const size_t bytes = (kStackBytes + kGuardBytes) * kMaxThreads;
  void* stacks =
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stacks == MAP_FAILED) throw std::bad_alloc();
  for (int i = 0; i < kMaxThreads; ++i) {
    lanes[i].number = i;
    lanes[i].stack = static_cast<char*>(stacks) + i * (kStackBytes + kGuardBytes) + kGuardBytes;
    if (mprotect(lanes[i].stack, kStackBytes, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  }
  give_signal_stack();
}

Worker::~Worker() {
  munmap(lanes[0].stack - kGuardBytes, (kStackBytes + kGuardBytes) * kMaxThreads);
}

// A fiber's whole life: one thread of a block after another.
void Worker::live(transfer_t from) {
  auto* worker = static_cast<Worker*>(from.data);
  worker->scheduler_ = from.fctx;
  for (;;) {
    running = worker;
    worker->launch->run(worker->launch->arguments.get());
    worker->wait(State::kExited, "", {});
  }
}

void Worker::wait(State state, const char* waits_for, SourceLine line) {
  running = nullptr;
  Lane& self = *lane;
  self.state = state;
  self.waits_for = waits_for;
  self.line = line;
  const transfer_t back = jump_fcontext(scheduler_, nullptr);
  scheduler_ = back.fctx;
  running = this;
}

void Worker::wait_for_warp(Collective collective, unsigned mask, void* operands,
                           const char* waits_for, SourceLine line) {
  Lane& self = *lane;
  if ((mask >> (self.number % kWarp) & 1u) == 0)
    fail("mask", text("%s with mask %08x, which does not name the calling lane %d (%s:%d)",
                      waits_for, mask, self.number % kWarp, line.file, line.line));
  self.collective = collective;
  self.mask = mask;
  self.operands = operands;
  wait(State::kAtCollective, waits_for, line);
}

void Worker::fail(const char* kind, const std::string& what) {
  running = nullptr;
  report(*lane, kind, what);
  failed_ = true;
  jump_fcontext(scheduler_, nullptr);
  std::abort();  // nobody resumes an abandoned fiber
}

bool Worker::is_stack(uintptr_t address) const {
  return address + kGuardBytes - reinterpret_cast<uintptr_t>(lanes[0].stack) <
         kMaxThreads * (kStackBytes + kGuardBytes);
}

std::string Worker::place(const Lane& at) const {
  return text("kernel %s, block (%u,%u,%u), thread (%u,%u,%u)", launch->name, block.x, block.y,
              block.z, at.index.x, at.index.y, at.index.z);
}

void Worker::report(const Lane& at, const char* kind, const std::string& what) {
  add_report(kind, place(at) + ": " + what);
}

// Fibers that stand somewhere in a kernel are forgotten; kernel code owns nothing.
void Worker::abandon() {
  for (Lane& each : lanes) {
    each.fiber = nullptr;
    each.copies.clear();
  }
}

void Worker::start(uint64_t seed) {
  const dim3 extent = launch->threads;
  alive_ = static_cast<int>(extent.x * extent.y * extent.z);
  at_barrier_ = 0;
  failed_ = false;
  random_ = seed * 2 + 1;
  next_random(random_);
  ready_.clear();
  for (Warp& warp : warps) warp = {};
  for (int i = 0; i < alive_; ++i) {
    Lane& each = lanes[i];
    const auto n = static_cast<unsigned>(i);
    each.index = {n % extent.x, n / extent.x % extent.y, n / (extent.x * extent.y)};
    each.state = State::kReady;
    each.group = 0;
    if (each.fiber == nullptr)
      each.fiber = make_fcontext(each.stack + kStackBytes - i % kColours * kColourBytes,
                                 kStackBytes - kColours * kColourBytes, &Worker::live);
    warps[i / kWarp].alive |= 1u << (i % kWarp);
    ready_.push_back(i);
  }
  shared.start_block(alive_, launch->shared_bytes);
}

bool Worker::run_block(const Launch& the_launch, int the_device, dim3 the_block, uint64_t seed) {
  launch = &the_launch;
  device = the_device;
  block = the_block;
  start(seed);
  while (alive_ > 0 && !failed_) {
    if (ready_.empty()) {
      stuck();
      break;
    }
    for (size_t i = ready_.size() - 1; i > 0; --i)
      std::swap(ready_[i], ready_[(next_random(random_) >> 32) % (i + 1)]);
    round_.swap(ready_);
    ready_.clear();
    for (size_t turn = 0; turn < round_.size(); ++turn) {
      fetch_ahead(turn);
      if (!resume(round_[turn])) break;
    }
  }
  if (failed_) abandon();
  return !failed_;
}

// In a drawn order each lane and the top of its stack are far from those before: asks for them
// while other lanes run.
void Worker::fetch_ahead(size_t turn) const {
  if (turn + 4 < round_.size()) __builtin_prefetch(&lanes[round_[turn + 4]]);
  if (turn + 2 >= round_.size()) return;
  const char* top = static_cast<const char*>(lanes[round_[turn + 2]].fiber);
  for (int line = 0; line < 5; ++line) __builtin_prefetch(top + 64 * line);
}

// Runs one thread until it waits or exits; false when it broke a rule.
bool Worker::resume(int number) {
  lane = &lanes[number];
  stack_begin = reinterpret_cast<uintptr_t>(lane->stack);
  const transfer_t back = jump_fcontext(lane->fiber, this);
  if (failed_) return false;
  lane->fiber = back.fctx;
  Warp& warp = warps[number / kWarp];
  const unsigned bit = 1u << (number % kWarp);
  if (lane->state == State::kAtCollective) {
    warp.waiting |= bit;
    return try_collective(*lane);
  }
  if (lane->state == State::kAtBarrier) {
    ++at_barrier_;
  } else {
    --alive_;
    warp.alive &= ~bit;
    if (!lane->copies.empty()) {
      report(*lane, "cp.async", "ends with a cp.async that it never waited for");
      failed_ = true;
      return false;
    }
    for (unsigned waiting = warp.waiting; waiting != 0; waiting &= waiting - 1) {
      Lane& other = lanes[number / kWarp * kWarp + std::countr_zero(waiting)];
      if (other.state == State::kAtCollective && !try_collective(other)) return false;
    }
  }
  arrived_at_barrier_or_exited();
  return !failed_;
}

// The barrier opens when every thread that has not exited waits at it.
void Worker::arrived_at_barrier_or_exited() {
  if (at_barrier_ == 0 || at_barrier_ < alive_) return;
  if (mixed_barrier()) return;
  at_barrier_ = 0;
  int counts[2] = {0, 0};
  const int threads = static_cast<int>(launch->threads.x * launch->threads.y * launch->threads.z);
  for (int i = 0; i < threads; ++i) {
    if (lanes[i].state != State::kAtBarrier) continue;
    ++counts[lanes[i].predicate != 0];
    lanes[i].state = State::kReady;
    ready_.push_back(i);
  }
  for (const int i : ready_) {
    if (lanes[i].operands != nullptr) {
      int* votes = static_cast<int*>(lanes[i].operands);
      votes[0] = counts[0];
      votes[1] = counts[1];
    }
  }
  shared.order().block_barrier();
}

// Reports threads that meet at different barriers of the source.
bool Worker::mixed_barrier() {
  const Lane* first = nullptr;
  const int threads = static_cast<int>(launch->threads.x * launch->threads.y * launch->threads.z);
  for (int i = 0; i < threads; ++i) {
    const Lane& each = lanes[i];
    if (each.state != State::kAtBarrier) continue;
    if (first == nullptr) first = &each;
    if (each.line.line != first->line.line || each.line.file != first->line.file) {
      report(each, "divergent barrier",
             text("waits at the barrier %s:%d while thread (%u,%u,%u) waits at %s:%d",
                  each.line.file, each.line.line, first->index.x, first->index.y, first->index.z,
                  first->line.file, first->line.line));
      failed_ = true;
      return true;
    }
  }
  return false;
}

// Carries out the collective that `arrived` waits for once every lane that its mask names, and that
// has not exited, waits for it too. False when they disagree.
bool Worker::try_collective(Lane& arrived) {
  const int number = arrived.number / kWarp;
  Warp& warp = warps[number];
  const unsigned lanes_of_it = arrived.mask & warp.alive;
  if ((lanes_of_it & ~warp.waiting) != 0) return true;
  for (unsigned rest = lanes_of_it; rest != 0; rest &= rest - 1) {
    const Lane& other = lanes[number * kWarp + std::countr_zero(rest)];
    if (other.mask == arrived.mask && other.collective == arrived.collective &&
        other.line.line == arrived.line.line && other.line.file == arrived.line.file)
      continue;
    report(arrived, "divergent warp",
           text("%s with mask %08x at %s:%d while thread (%u,%u,%u), which the mask names, is at "
                "%s with mask %08x at %s:%d",
                arrived.waits_for, arrived.mask, arrived.line.file, arrived.line.line,
                other.index.x, other.index.y, other.index.z, other.waits_for, other.mask,
                other.line.file, other.line.line));
    failed_ = true;
    return false;
  }
  arrived.collective(*this, number, lanes_of_it);
  if (failed_) return false;
  warp.waiting &= ~lanes_of_it;
  for (unsigned rest = lanes_of_it; rest != 0; rest &= rest - 1) {
    const int i = number * kWarp + std::countr_zero(rest);
    lanes[i].state = State::kReady;
    ready_.push_back(i);
  }
  return true;
}

void Worker::fail_collective(int number, const char* kind, const std::string& what) {
  report(lanes[number], kind, what);
  failed_ = true;
}

// Nobody can go on: some thread waits for one that waits elsewhere.
void Worker::stuck() {
  const Lane *barrier = nullptr, *collective = nullptr;
  const int threads = static_cast<int>(launch->threads.x * launch->threads.y * launch->threads.z);
  for (int i = 0; i < threads; ++i) {
    if (lanes[i].state == State::kAtBarrier && barrier == nullptr) barrier = &lanes[i];
    if (lanes[i].state == State::kAtCollective && collective == nullptr) collective = &lanes[i];
  }
  failed_ = true;
  if (collective == nullptr) return;
  const Warp& warp = warps[collective->number / kWarp];
  const int missing = std::countr_zero(collective->mask & warp.alive & ~warp.waiting);
  std::string what = text("waits at %s with mask %08x (%s:%d)", collective->waits_for,
                          collective->mask, collective->line.file, collective->line.line);
  if (missing < kWarp) {
    const Lane& other = lanes[collective->number / kWarp * kWarp + missing];
    what += text(" for lane %d, which waits at %s (%s:%d)", missing, other.waits_for,
                 other.line.file, other.line.line);
  }
  report(*collective, barrier != nullptr ? "divergent barrier" : "divergent warp", what);
}

Worker& current_worker(const char* function) {
  if (running == nullptr) {
    std::fprintf(stderr, "cuda_on_cpu: host code calls the device function %s\n", function);
    std::abort();
  }
  return *running;
}

}  // namespace tenon::cuda_on_cpu
