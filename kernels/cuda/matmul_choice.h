// SPDX-License-Identifier: Apache-2.0
// How a product is carried out, where there are several ways: each is timed once for each problem,
// and the fastest is kept for the process. Which one that is depends on the machine and the moment,
// and the ways sum in different orders: with timing, two runs of a program may differ in their last
// bits. set_timed(false) takes the first way by rule instead; then the same build on the same card
// gives the same bits.
//
// Safe to call from several threads.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "core/kernel_table.h"

namespace tenon::cuda {

void set_timed(bool timed);
bool timed();

enum class MatmulPath : uint8_t { kAutomatic, kOwn, kLibrary };

// Forces a way for products that it can carry out: for tests and benchmarks.
void set_matmul_path(MatmulPath path);
MatmulPath matmul_path();

// Scratch slots of matmul (core/device.h). Slots of casts are overwritten by the next product.
enum MatmulSlot { kCastA, kCastB, kCastBias, kPartialSums, kTimedResult, kWorkspace };

// What tells one problem from another: sizes, dtypes, alignments, flags.
using ProblemKey = std::array<int64_t, 20>;

// Milliseconds that `run` takes on stream(): the median of three, after one that does not count.
float milliseconds(const std::function<void()>& run);

// 256, or the largest power of two below that divides the address: alignments decide which
// algorithms there are.
int64_t alignment_of(const void* pointer);

// The memory that timed runs write their results to: c itself, or scratch where runs would add up
// in c.
void* timed_result(void* c, int64_t bytes, bool accumulate);

// Whether our kernel carries out this problem faster than the library.
bool own_is_faster(const ProblemKey& key, const std::function<void()>& own,
                   const std::function<void()>& library);

}  // namespace tenon::cuda
