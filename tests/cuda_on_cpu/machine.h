// SPDX-License-Identifier: Apache-2.0
// The machine that runs a kernel: each OS thread that takes part is a Worker, which runs one block
// at a time; each thread of the block is a fiber with its own stack. Fibers run in an order drawn
// from the seed and change places only at barriers and warp collectives.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/cuda_on_cpu/shared_memory.h"

namespace tenon::cuda_on_cpu {

constexpr int kWarp = 32, kMaxThreads = 1024;

class Worker;

// What the lanes of a warp do together once all that the mask names have come. The lanes' operands
// lie on their stacks.
using Collective = void (*)(Worker& worker, int warp, unsigned lanes);

enum class State : uint8_t { kReady, kAtBarrier, kAtCollective, kExited };

// A cp.async between its issue and its landing.
struct AsyncCopy {
  char* to;
  const void* from;  // null: zeros
  int bytes;
  int64_t group;
};

// One thread of the block.
struct alignas(64) Lane {
  boost::context::detail::fcontext_t fiber = nullptr;
  char* stack = nullptr;  // lowest usable address
  int number = 0;         // within the block
  uint3 index = {};
  State state = State::kReady;
  SourceLine line;  // where it waits
  const char* waits_for = "";
  Collective collective = nullptr;
  unsigned mask = 0;
  void* operands = nullptr;
  int predicate = 0;
  std::vector<AsyncCopy> copies;  // in the order of issue
  int64_t group = 0;              // that the next cp.async belongs to
};

struct Warp {
  unsigned alive = 0, waiting = 0;  // lanes that have not exited; lanes at a collective
};

struct Extent {
  uintptr_t begin = 0;
  uint64_t bytes = 0;
};

class Worker {
 public:
  static constexpr uint64_t kStackBytes = 64 * 1024;

  Worker();
  ~Worker();
  Worker(const Worker&) = delete;

  // Runs one block of the grid; false when it broke a rule (reported).
  bool run_block(const Launch& launch, int device, dim3 block, uint64_t seed);

  // From kernel code: gives up the processor until the lane's state is kReady again.
  void wait(State state, const char* waits_for, SourceLine line);
  void wait_for_warp(Collective collective, unsigned mask, void* operands, const char* waits_for,
                     SourceLine line);

  // From kernel code: reports and never returns; the block is abandoned.
  [[noreturn]] void fail(const char* kind, const std::string& text);
  // From a collective: reports on behalf of a thread; the block is abandoned.
  void fail_collective(int number, const char* kind, const std::string& text);
  // "kernel k, block (0,0,0), thread (3,0,0)".
  std::string place(const Lane& lane) const;

  // Whether some thread's local variables lie there.
  bool is_stack(uintptr_t address) const;

  // What the memory checks look at first.
  uintptr_t stack_begin = 0;
  SharedMemory shared;
  static constexpr int kCached = 256;
  Extent cached[kCached];  // live device blocks, by the instruction that met them

  Lane* lane = nullptr;  // that runs
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  const Launch* launch = nullptr;
  int device = 0;
  dim3 block;

 private:
  void start(uint64_t seed);
  bool resume(int number);
  void fetch_ahead(size_t turn) const;
  void arrived_at_barrier_or_exited();
  bool try_collective(Lane& lane);
  bool mixed_barrier();
  void stuck();
  void report(const Lane& lane, const char* kind, const std::string& text);
  void abandon();
  [[noreturn]] static void live(boost::context::detail::transfer_t from);

  boost::context::detail::fcontext_t scheduler_ = nullptr;
  std::vector<int> ready_, round_;
  uint64_t random_ = 1;
  int alive_ = 0, at_barrier_ = 0;
  bool failed_ = false;
};

// The worker whose kernel code this OS thread runs at the moment; null in all other code, that of
// the harness itself included.
extern constinit thread_local Worker* running __attribute__((tls_model("initial-exec")));

// Checks an access by kernel code that the harness makes on its behalf. Does not return when the
// access breaks a rule.
void check_read(const void* at, int64_t bytes);
void check_write(void* at, int64_t bytes);
void check_atomic(void* at, int64_t bytes);

// Leaves kernel code for the harness's own.
class Pause {
 public:
  Pause() : worker_(running) { running = nullptr; }
  ~Pause() { running = worker_; }
  Pause(const Pause&) = delete;

 private:
  Worker* worker_;
};

// The worker of kernel code; ends the program when host code calls a device function.
Worker& current_worker(const char* function);

// Runs all blocks of a launch on the configured number of OS threads. False when one broke a rule.
bool run_grid(const Launch& launch, int device);

// Records a violation and prints it unless quiet.
void add_report(std::string kind, std::string text);
bool any_report();
bool is_quiet();
// The text of the first violation that is not yet taken; it stays valid.
const char* first_report();

// printf into a string.
[[gnu::format(printf, 1, 2)]] std::string text(const char* format, ...);

}  // namespace tenon::cuda_on_cpu
