// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, measured: the yardsticks that benchmark results are shares of.
#pragma once

#include <cstdint>
#include <memory>

namespace tenon::bench {

// The instruction set that the FMA measurement runs on: "avx512", "avx2" or "sse2", the best that
// this CPU has.
const char* peak_isa();

// Which of the CPU's units: fused multiply-adds in fp32, vdpbf16ps (pairs of bf16 into fp32),
// vpdpbusd (fours of int8 into int32).
enum class Units { kFma, kBF16Dot, kInt8Dot };

// Their rate on registers alone, in 10^9 operations a second (a product and its sum are two), over
// `threads` threads; the best of several runs of some milliseconds. 0 where the CPU has none.
double peak_gflops(Units units, int threads);

// Copying from memory to memory, bytes read plus bytes written, in 10^9 bytes a second; the best of
// several runs and of two ways to copy. Each array is four times as large as the last cache, within
// reason.
double copy_bandwidth(int threads, int64_t last_cache);

// A copy as above, to run in turn with what it is compared with: bandwidth to memory that is shared
// with others changes from second to second. It runs on parallel_for's threads.
class Copy {
 public:
  explicit Copy(int64_t last_cache);
  void run();
  double bytes() const { return 2 * static_cast<double>(bytes_); }  // read and written

 private:
  int64_t bytes_;
  std::unique_ptr<char, void (*)(void*)> from_, to_;
};

}  // namespace tenon::bench
