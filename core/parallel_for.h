// SPDX-License-Identifier: Apache-2.0
// What a CPU kernel may ask of the process: threads and scratch memory. Kernels include this
// header, so it declares plain functions only (the ISA rule of CONTRIBUTING.md: no inline function may be
// compiled twice with different flags).
#pragma once

#include <cstdint>

namespace tenon {

// Runs body(context, chunk) for every chunk in [0, chunks), spread over the calling thread's share
// of the machine's cores; returns when all are done. Which thread runs a chunk is not fixed, so a
// kernel's result must be a function of the chunk alone: chunk sizes never depend on the number of
// threads.
void parallel_for(int64_t chunks, void (*body)(void* context, int64_t chunk), void* context);

// The number of threads that parallel_for uses when called from this thread.
int thread_count();
// Sets it for this thread (each rank thread of a test has its own). Requires: count >= 1.
void set_thread_count(int count);

// False in a dry run (core/counting.h), in which parallel_for returns at once: a kernel then asks for
// its scratch memory and does nothing else that costs anything.
bool chunks_are_run();

// Scratch memory of the calling thread, 64-byte aligned, kept between calls and grown when `bytes`
// exceeds what is there; contents are undefined. One block per (thread, slot): a kernel that calls
// again with the same slot invalidates its earlier block. Slots 0..7. Counted as workspace.
void* thread_scratch(int slot, int64_t bytes);

// Sees to it that every thread that may run chunks of this one has as much in the slot. A kernel says
// here, before its parallel_for, what its chunks ask for: what a kernel takes must neither depend on
// who runs which chunk nor stay unknown to a dry run.
void reserve_scratch(int slot, int64_t bytes);

}  // namespace tenon
