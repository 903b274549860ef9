// SPDX-License-Identifier: Apache-2.0
// Streams hold work until somebody waits for it, so that host code which forgets to wait reads old
// data. One lock guards the whole runtime; who waits runs the work himself, under it.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>

#include <cuda_runtime.h>

struct CUevent_st {
  using Moment = std::chrono::steady_clock::time_point;

  bool timed = true;
  CUstream_st* stream = nullptr;                                 // of the last record; null before
  uint64_t ticket = 0;                                           // of the last record
  std::shared_ptr<Moment> reached = std::make_shared<Moment>();  // the queue outlives the event
};

namespace tenon::cuda_on_cpu {

struct Task {
  uint64_t ticket;  // ascending over all streams
  std::function<cudaError_t()> run;
};

}  // namespace tenon::cuda_on_cpu

struct CUstream_st {
  int device = 0;
  bool blocking = true;  // ordered against the device's default stream
  bool is_default = false;
  std::deque<tenon::cuda_on_cpu::Task> queue;
};

namespace tenon::cuda_on_cpu {

std::recursive_mutex& runtime_lock();

// The stream behind a handle (null: the current device's default stream); null when it is unknown.
CUstream_st* stream_of(cudaStream_t handle);
CUstream_st* create_stream(bool blocking);
bool destroy_stream(cudaStream_t stream);
int current_device();
void set_current_device(int device);

// Queues work, or returns the device's standing error. Returns the ticket in `ticket`.
cudaError_t enqueue_task(CUstream_st* stream, std::function<cudaError_t()> run,
                         uint64_t* ticket = nullptr);

// Runs what is queued: all of a stream, a stream up to a ticket, all of a device.
cudaError_t drain(CUstream_st* stream, uint64_t last_ticket = UINT64_MAX);
cudaError_t drain_device(int device);
// The same, called because the host waits; counted.
cudaError_t wait_for(CUstream_st* stream, uint64_t last_ticket = UINT64_MAX);
cudaError_t wait_for_device(int device);
// Says cudaErrorNotReady when something is queued, and runs it: who asks again finds it done.
cudaError_t query(CUstream_st* stream, uint64_t last_ticket = UINT64_MAX);
bool exists(const CUstream_st* stream);

// cudaSuccess, or what every call returns since a kernel broke a rule.
cudaError_t standing_error();

// What stands in the way of any call that needs a device: its driver, or the standing error.
cudaError_t obstacle();
// Shared memory that one block may have.
int64_t shared_limit();

// Notes `error` for cudaGetLastError and returns it.
cudaError_t noted(cudaError_t error);
cudaError_t last_error(bool clear);

}  // namespace tenon::cuda_on_cpu
