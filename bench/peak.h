// SPDX-License-Identifier: Apache-2.0
// What this machine can do at most, measured: the yardsticks that benchmark results are shares of.
#pragma once

namespace tenon::bench {

// The instruction set that the FMA measurement runs on: "avx512", "avx2" or "sse2", the best that
// this CPU has.
const char* peak_isa();

// Fused multiply-adds in fp32 on registers alone, in 10^9 operations a second (one FMA is two),
// over `threads` threads; the best of several runs of about 20 ms.
double peak_gflops(int threads);

// Copying 64 MiB a thread, bytes read plus bytes written, in 10^9 bytes a second; the best of
// several runs.
double copy_bandwidth(int threads);

}  // namespace tenon::bench
