// SPDX-License-Identifier: Apache-2.0
// What tests ask of the harness: which device to play, and what it saw kernels do wrong.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tenon::cuda_on_cpu {

enum class Driver { kPresent, kAbsent, kTooOld };

struct Config {
  int sm = 90;  // compute capability, major * 10 + minor; 90 runs every variant
  int64_t memory = int64_t{2} << 30;  // bytes of each device
  int devices = 1;
  Driver driver = Driver::kPresent;
  uint64_t seed = 1;  // of the order in which threads and blocks run
  int threads = 2;    // of the operating system, which share a grid's blocks
};

// The present choice. At the program's start it is read from the environment variable
// TENON_CUDA_ON_CPU, as in "sm=90,memory=2GB,devices=1,seed=7,threads=2,driver=absent".
Config config();

// Requires: no work is queued.
void configure(const Config& config);

// One violation. `kind` is one word or two for tests to compare; `text` names kernel, block, thread
// and place.
struct Report {
  std::string kind, text;
};

// The violations since the last call. Also forgives them: the devices work again.
std::vector<Report> take_reports();

// How often the host has waited for a device: synchronised a stream, an event or a device, copied
// without a stream, or given memory back.
int64_t waits();

// While quiet, violations are not printed to stderr.
void set_quiet(bool quiet);

}  // namespace tenon::cuda_on_cpu
