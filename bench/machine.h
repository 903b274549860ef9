// SPDX-License-Identifier: Apache-2.0
// The machine that figures belong to, and what it can do at most, measured in the same run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"

namespace tenon::bench {

struct Machine {
  std::string device;                          // "cpu (avx512 kernels)"
  std::string table;                           // "avx512"
  std::string cpu;                             // model name
  int cores = 0, threads = 0;                  // that this process may use; that it does use
  int64_t l1 = 0, l2 = 0, l3 = 0, memory = 0;  // bytes; a cache as one core sees it
  std::string isa;                             // of the FMA measurement
  double fma_1 = 0, fma = 0;                   // GFLOP/s in fp32 on 1 thread and on all
  double bf16_dot = 0, int8_dot = 0;           // 10^9 operations/s; 0 where there are none
  double copy_1 = 0, copy = 0;                 // GB/s, read plus written
  std::vector<std::string> peers;

  // The most that products of this dtype could run at: on the CPU the better of widening to fp32 and
  // of the instruction for it.
  double peak(DType dtype) const;
};

// Measures for about a second.
Machine measure_machine(Device device, DType dtype);

// Bytes of the last cache, as the system reports it; 0 where it does not.
int64_t last_cache_bytes();

}  // namespace tenon::bench
