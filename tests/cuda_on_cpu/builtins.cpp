// SPDX-License-Identifier: Apache-2.0
// The built-in functions of device code that need the machine: indices, barriers, collectives,
// number formats.
#include <bit>
#include <cstring>

#include "tests/cuda_on_cpu/machine.h"

namespace tenon::cuda_on_cpu {
namespace {

// What each lane brings to a shuffle or a vote, and where it gets its result.
struct ShuffleOperands {
  Shuffle kind;
  uint64_t value;
  int operand, width;
};
struct VoteOperands {
  int predicate;
  unsigned ballot;
};

template <class T>
T& operands(Worker& worker, int warp, int lane) {
  return *static_cast<T*>(worker.lanes[warp * kWarp + lane].operands);
}

// The PTX ISA's table for shfl.sync, for segments of `width` lanes.
int source_lane(const ShuffleOperands& o, int lane) {
  const int first = lane / o.width * o.width, last = first + o.width - 1;
  switch (o.kind) {
    case Shuffle::kIndex: return first + (o.operand & (o.width - 1));
    case Shuffle::kUp: return lane - o.operand < first ? lane : lane - o.operand;
    case Shuffle::kDown: return lane + o.operand > last ? lane : lane + o.operand;
    case Shuffle::kXor:
      // A lane of a later segment is out of reach; one of an earlier segment is not.
      return (lane ^ o.operand) > last ? lane : lane ^ o.operand;
  }
  return lane;
}

void do_shuffle(Worker& worker, int warp, unsigned lanes) {
  uint64_t values[kWarp] = {};
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    values[lane] = operands<ShuffleOperands>(worker, warp, lane).value;
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    auto& mine = operands<ShuffleOperands>(worker, warp, lane);
    const int source = source_lane(mine, lane);
    if ((lanes >> source & 1u) == 0) {
      const Lane& at = worker.lanes[warp * kWarp + lane];
      worker.fail_collective(at.number, "shuffle",
                             text("reads lane %d, which takes no part: mask %08x, lanes %08x "
                                  "(%s:%d)",
                                  source, at.mask, lanes, at.line.file, at.line.line));
      return;
    }
    mine.value = values[source];
  }
}

void do_vote(Worker& worker, int warp, unsigned lanes) {
  unsigned ballot = 0;
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    if (operands<VoteOperands>(worker, warp, lane).predicate != 0) ballot |= 1u << lane;
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1)
    operands<VoteOperands>(worker, warp, std::countr_zero(rest)).ballot = ballot;
}

void do_warp_barrier(Worker& worker, int warp, unsigned lanes) {
  worker.shared.order().warp_barrier(warp, lanes);
}

}  // namespace

uint3 thread_index() noexcept { return current_worker("threadIdx").lane->index; }
uint3 block_index() noexcept {
  const dim3 block = current_worker("blockIdx").block;
  return {block.x, block.y, block.z};
}
dim3 block_extent() noexcept { return current_worker("blockDim").launch->threads; }
dim3 grid_extent() noexcept { return current_worker("gridDim").launch->blocks; }

void block_barrier(SourceLine line) {
  Worker& worker = current_worker("__syncthreads");
  worker.lane->operands = nullptr;
  worker.wait(State::kAtBarrier, "__syncthreads", line);
}

int block_vote(BlockVote kind, int predicate, SourceLine line) {
  Worker& worker = current_worker("__syncthreads");
  int votes[2] = {0, 0};  // against, for
  worker.lane->predicate = predicate;
  worker.lane->operands = votes;
  worker.wait(State::kAtBarrier, "__syncthreads", line);
  switch (kind) {
    case BlockVote::kOr: return votes[1] > 0;
    case BlockVote::kAnd: return votes[0] == 0;
    case BlockVote::kCount: return votes[1];
  }
  return 0;
}

void warp_barrier(unsigned mask, SourceLine line) {
  current_worker("__syncwarp").wait_for_warp(&do_warp_barrier, mask, nullptr, "__syncwarp", line);
}

uint64_t shuffle(Shuffle kind, unsigned mask, uint64_t value, int operand, int width,
                 SourceLine line) {
  Worker& worker = current_worker("__shfl_sync");
  if (width < 1 || width > kWarp || !std::has_single_bit(static_cast<unsigned>(width)))
    worker.fail("shuffle", text("width %d (%s:%d)", width, line.file, line.line));
  ShuffleOperands mine = {kind, value, operand, width};
  worker.wait_for_warp(&do_shuffle, mask, &mine, "a shuffle", line);
  return mine.value;
}

unsigned vote(Vote kind, unsigned mask, int predicate, SourceLine line) {
  Worker& worker = current_worker("__ballot_sync");
  VoteOperands mine = {predicate, 0};
  worker.wait_for_warp(&do_vote, mask, &mine, "a vote", line);
  if (kind == Vote::kBallot) return mine.ballot;
  if (kind == Vote::kAny) return mine.ballot != 0;
  const Warp& warp = worker.warps[worker.lane->number / kWarp];
  return mine.ballot == (mask & (warp.alive | mine.ballot));
}

// The least that CUDA promises: the calling lane is active.
unsigned active_lanes() { return 1u << (current_worker("__activemask").lane->number % kWarp); }

void* shared_array(const void* tag, const char* name, int64_t bytes, int64_t alignment) {
  Worker& worker = current_worker("TENON_SHARED");
  const Pause pause;
  void* array = worker.shared.array(tag, name, bytes, alignment);
  if (array == nullptr || worker.shared.static_bytes() > 48 * 1024)
    worker.fail("shared memory", text("'%s' makes %lld bytes of static shared memory", name,
                                      static_cast<long long>(worker.shared.static_bytes())));
  return array;
}

void* dynamic_shared_memory() { return current_worker("dynamic_shared").shared.dynamic(); }

// Moves exponent and mantissa to their places in a float; the product corrects the exponent's bias
// and is exact. gcc's own conversion is a call that takes several times as long.
float half_to_float(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, rest = (bits & 0x7fffu) << 13;
  if (rest < 0x7c00u << 13)
    return std::bit_cast<float>(sign |
                                std::bit_cast<uint32_t>(std::bit_cast<float>(rest) * 0x1p112f));
  const uint32_t quiet = rest > 0x7c00u << 13 ? 0x400000u : 0;
  return std::bit_cast<float>(sign | 0x7f800000u | rest | quiet);
}
uint16_t float_to_half(float value) {
  return std::bit_cast<uint16_t>(static_cast<_Float16>(value));
}
uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace tenon::cuda_on_cpu

void __trap() {
  using tenon::cuda_on_cpu::current_worker;
  current_worker("__trap").fail("trap", "__trap()");
}
