// SPDX-License-Identifier: Apache-2.0
#include "tests/cuda_on_cpu/streams.h"

#include <atomic>
#include <map>

#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_memory.h"

namespace tenon::cuda_on_cpu {
namespace {

constexpr size_t kLongQueue = 512;

std::set<CUstream_st*> created;
std::map<int, CUstream_st*> defaults;
uint64_t next_ticket = 1;
std::atomic<int64_t> wait_count = 0;
thread_local int the_device = 0;
thread_local cudaError_t the_last_error = cudaSuccess;

CUstream_st* default_stream(int device) {
  CUstream_st*& stream = defaults[device];
  if (stream == nullptr) {
    stream = new CUstream_st;
    stream->device = device;
    stream->is_default = true;
  }
  return stream;
}

// The default stream and the blocking streams of a device wait for each other's earlier work.
void drain_ordered_before(const CUstream_st* stream, uint64_t ticket) {
  if (!stream->is_default && !stream->blocking) return;
  if (!stream->is_default) {
    drain(default_stream(stream->device), ticket - 1);
    return;
  }
  for (CUstream_st* other : created)
    if (other->blocking && other->device == stream->device) drain(other, ticket - 1);
}

}  // namespace

std::recursive_mutex& runtime_lock() {
  static auto* lock = new std::recursive_mutex;
  return *lock;
}

int current_device() { return the_device; }
void set_current_device(int device) { the_device = device; }

CUstream_st* stream_of(cudaStream_t handle) {
  if (handle == nullptr) return default_stream(the_device);
  return created.count(handle) != 0 ? handle : nullptr;
}

CUstream_st* create_stream(bool blocking) {
  auto* stream = new CUstream_st;
  stream->device = the_device;
  stream->blocking = blocking;
  created.insert(stream);
  return stream;
}

bool destroy_stream(cudaStream_t stream) {
  if (stream == nullptr || created.count(stream) == 0) return false;
  drain(stream);
  created.erase(stream);
  delete stream;
  return true;
}

cudaError_t standing_error() { return any_report() ? cudaErrorIllegalAddress : cudaSuccess; }

cudaError_t enqueue_task(CUstream_st* stream, std::function<cudaError_t()> run, uint64_t* ticket) {
  if (standing_error() != cudaSuccess) return standing_error();
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  stream->queue.push_back({next_ticket, std::move(run)});
  if (ticket != nullptr) *ticket = next_ticket;
  ++next_ticket;
  if (stream->queue.size() > kLongQueue) drain(stream);
  return cudaSuccess;
}

cudaError_t drain(CUstream_st* stream, uint64_t last_ticket) {
  const DeviceAccess access;
  while (!stream->queue.empty() && stream->queue.front().ticket <= last_ticket) {
    const Task task = std::move(stream->queue.front());
    stream->queue.pop_front();
    drain_ordered_before(stream, task.ticket);
    if (standing_error() != cudaSuccess) continue;
    const cudaError_t error = task.run();
    if (error != cudaSuccess && !any_report())
      add_report("runtime", std::string("queued work failed: ") + cudaGetErrorString(error));
  }
  return standing_error();
}

cudaError_t drain_device(int device) {
  drain(default_stream(device));
  for (CUstream_st* stream : created)
    if (stream->device == device) drain(stream);
  return standing_error();
}

cudaError_t wait_for(CUstream_st* stream, uint64_t last_ticket) {
  ++wait_count;
  return drain(stream, last_ticket);
}

cudaError_t wait_for_device(int device) {
  ++wait_count;
  return drain_device(device);
}

int64_t waits() { return wait_count; }

cudaError_t query(CUstream_st* stream, uint64_t last_ticket) {
  if (stream->queue.empty() || stream->queue.front().ticket > last_ticket) return cudaSuccess;
  const cudaError_t error = drain(stream, last_ticket);
  return error != cudaSuccess ? error : cudaErrorNotReady;
}

bool exists(const CUstream_st* stream) {
  for (const auto& [device, each] : defaults)
    if (each == stream) return true;
  return created.count(const_cast<CUstream_st*>(stream)) != 0;
}

cudaError_t noted(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) the_last_error = error;
  return error;
}

cudaError_t last_error(bool clear) {
  const cudaError_t standing = standing_error();
  const cudaError_t error = standing != cudaSuccess ? standing : the_last_error;
  if (clear) the_last_error = cudaSuccess;
  return error;
}

}  // namespace tenon::cuda_on_cpu
