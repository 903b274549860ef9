// SPDX-License-Identifier: Apache-2.0
// The groups of `tenon bench` besides gemm.h's: each checks, times and reports its lines.
#pragma once

#include "bench/options.h"
#include "bench/report.h"

namespace tenon::bench {

// The linear op with an adapter, forward and backward, in turn with the same op without one.
void bench_lora(const Options& options, Report& report);
// Attention forward, forward and backward, and of one new token over a cache.
void bench_attention(const Options& options, Report& report);
// linear_cross_entropy forward and backward, and the memory that it takes.
void bench_loss(const Options& options, Report& report);
// Every kernel that is bound by memory, beside the bandwidth of a copy.
void bench_rows(const Options& options, Report& report);
// Training steps of a model.
void bench_step(const Options& options, Report& report);

}  // namespace tenon::bench
