// SPDX-License-Identifier: Apache-2.0
// The functions of the CUDA runtime.
#include <cuda_runtime.h>

#include <cstring>
#include <map>

#include "tests/cuda_on_cpu/device_memory.h"
#include "tests/cuda_on_cpu/streams.h"

namespace tenon::cuda_on_cpu {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

constexpr int64_t kDefaultShared = 48 * 1024;

// Dynamic limits that cudaFuncSetAttribute raised.
std::map<const void*, int64_t> raised_limits;

cudaError_t launch_error(const Launch& launch) {
  const uint64_t threads = uint64_t{launch.threads.x} * launch.threads.y * launch.threads.z;
  if (threads == 0 || threads > 1024 || launch.threads.z > 64) return cudaErrorInvalidConfiguration;
  if (launch.blocks.x == 0 || launch.blocks.y == 0 || launch.blocks.z == 0 ||
      launch.blocks.x > 0x7fffffffu || launch.blocks.y > 65535 || launch.blocks.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (launch.argument_bytes > 4096) return cudaErrorInvalidValue;
  if (launch.architecture > config().sm) return cudaErrorNoKernelImageForDevice;
  const auto raised = raised_limits.find(launch.function);
  const int64_t limit = raised == raised_limits.end() ? kDefaultShared : raised->second;
  if (launch.shared_bytes < 0 || launch.shared_bytes > std::max(limit, kDefaultShared))
    return cudaErrorInvalidValue;
  return cudaSuccess;
}

// The side of a pointer, as cudaMemcpyDefault sees it.
bool is_device(const void* pointer) {
  return in_device_region(reinterpret_cast<uintptr_t>(pointer));
}

cudaMemcpyKind inferred(const void* to, const void* from, cudaMemcpyKind kind) {
  if (kind != cudaMemcpyDefault) return kind;
  if (is_device(to)) return is_device(from) ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice;
  return is_device(from) ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
}

struct Copy {
  char* to;
  const char* from;
  size_t to_pitch, from_pitch, width, height;

  size_t extent(size_t pitch) const { return height == 0 ? 0 : pitch * (height - 1) + width; }
  void run() const {
    for (size_t row = 0; row < height; ++row)
      std::memcpy(to + row * to_pitch, from + row * from_pitch, width);
  }
};

// Whether the pointers lie where `kind` says; reports when not.
bool copy_is_sound(const Copy& copy, cudaMemcpyKind kind, int device) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const auto check = [&](const char* side, const void* pointer, bool on_device, size_t pitch) {
    const auto bytes = static_cast<int64_t>(copy.extent(pitch));
    std::string problem;
    if (on_device) {
      problem = device_range_problem(pointer, bytes, device);
    } else if (is_device(pointer)) {
      problem = "device memory, where a host pointer belongs";
    }
    if (problem.empty()) return true;
    add_report("copy", text("cudaMemcpy of %zu x %zu bytes, %s: %s", copy.height, copy.width, side,
                            problem.c_str()));
    return false;
  };
  return check("to", copy.to, to_device, copy.to_pitch) &&
         check("from", copy.from, from_device, copy.from_pitch);
}

// From pageable memory CUDA copies into its own buffer before it returns; to pageable memory it
// returns after the copy. Pinned memory is read and written when the stream gets there.
cudaError_t copy_async(Copy copy, cudaMemcpyKind kind, CUstream_st* stream) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (copy.width == 0 || copy.height == 0) return cudaSuccess;
  if (copy.width > copy.to_pitch || copy.width > copy.from_pitch) return cudaErrorInvalidPitchValue;
  kind = inferred(copy.to, copy.from, kind);
  if (!copy_is_sound(copy, kind, stream->device)) return cudaErrorInvalidValue;
  std::shared_ptr<std::vector<char>> staged;
  if (kind == cudaMemcpyHostToDevice && !is_pinned(copy.from)) {
    staged = std::make_shared<std::vector<char>>(copy.width * copy.height);
    const Copy stage = {staged->data(),  copy.from,  copy.width,
                        copy.from_pitch, copy.width, copy.height};
    stage.run();
    copy.from = staged->data();
    copy.from_pitch = copy.width;
  }
  const cudaError_t error = enqueue_task(stream, [copy, kind, staged, device = stream->device] {
    if (!copy_is_sound(copy, kind, device)) return cudaErrorIllegalAddress;
    copy.run();
    return cudaSuccess;
  });
  if (error != cudaSuccess) return error;
  const bool waits =
      kind == cudaMemcpyHostToHost || (kind == cudaMemcpyDeviceToHost && !is_pinned(copy.to));
  return waits ? wait_for(stream) : cudaSuccess;
}

}  // namespace

cudaError_t set_function_attribute(const void* function, cudaFuncAttribute attribute, int value) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || value > shared_limit()) return noted(cudaErrorInvalidValue);
  raised_limits[function] = value;
  return cudaSuccess;
}

cudaError_t enqueue(Launch launch, cudaStream_t handle) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  CUstream_st* stream = stream_of(handle);
  if (stream == nullptr) return noted(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = launch_error(launch); error != cudaSuccess) return noted(error);
  return noted(enqueue_task(stream, [launch = std::move(launch), device = stream->device] {
    return run_grid(launch, device) ? cudaSuccess : cudaErrorIllegalAddress;
  }));
}

}  // namespace tenon::cuda_on_cpu

using namespace tenon::cuda_on_cpu;

cudaError_t cudaMalloc(void** block, size_t bytes) {
  const Lock lock(runtime_lock());
  *block = nullptr;
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  if (bytes == 0) return cudaSuccess;
  if (bytes <= static_cast<size_t>(config().memory))
    *block = allocate_device(static_cast<int64_t>(bytes), current_device());
  return *block != nullptr ? cudaSuccess : noted(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* block) {
  const Lock lock(runtime_lock());
  if (block == nullptr) return cudaSuccess;
  for (int device = 0; device < config().devices; ++device) wait_for_device(device);
  if (!free_device(block)) return noted(cudaErrorInvalidValue);
  return noted(standing_error());
}

cudaError_t cudaMallocAsync(void** block, size_t bytes, cudaStream_t) {
  return cudaMalloc(block, bytes);
}

cudaError_t cudaFreeAsync(void* block, cudaStream_t handle) {
  const Lock lock(runtime_lock());
  if (block == nullptr) return cudaSuccess;
  return noted(enqueue_task(stream_of(handle), [block] {
    return free_device(block) ? cudaSuccess : cudaErrorInvalidValue;
  }));
}

cudaError_t cudaMallocHost(void** block, size_t bytes) {
  const Lock lock(runtime_lock());
  *block = nullptr;
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  *block = allocate_pinned(static_cast<int64_t>(bytes));
  return *block != nullptr ? cudaSuccess : noted(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void* block) {
  const Lock lock(runtime_lock());
  if (block == nullptr) return cudaSuccess;
  for (int device = 0; device < config().devices; ++device) drain_device(device);
  return free_pinned(block) ? cudaSuccess : noted(cudaErrorInvalidValue);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  return noted(
      copy_async({static_cast<char*>(to), static_cast<const char*>(from), bytes, bytes, bytes, 1},
                 kind, stream_of(stream)));
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(runtime_lock());
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  if (error != cudaSuccess) return error;
  const bool waits = inferred(to, from, kind) != cudaMemcpyDeviceToDevice;
  return waits ? noted(wait_for(stream_of(nullptr))) : cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  return noted(copy_async(
      {static_cast<char*>(to), static_cast<const char*>(from), to_pitch, from_pitch, width, height},
      kind, stream_of(stream)));
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t handle) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  CUstream_st* stream = stream_of(handle);
  if (stream == nullptr) return noted(cudaErrorInvalidResourceHandle);
  if (bytes == 0) return cudaSuccess;
  const auto sound = [to, bytes, device = stream->device] {
    const std::string problem = device_range_problem(to, static_cast<int64_t>(bytes), device);
    if (!problem.empty()) add_report("memset", text("cudaMemset: %s", problem.c_str()));
    return problem.empty();
  };
  if (!sound()) return noted(cudaErrorInvalidValue);
  return noted(enqueue_task(stream, [to, value, bytes, sound] {
    if (!sound()) return cudaErrorIllegalAddress;
    std::memset(to, value, bytes);
    return cudaSuccess;
  }));
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, nullptr);
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  *total_bytes = static_cast<size_t>(config().memory);
  *free_bytes = *total_bytes - static_cast<size_t>(device_bytes_used(current_device()));
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, const_cast<void*>(pointer)};
  const DeviceBlock* block = find_device_block(reinterpret_cast<uintptr_t>(pointer));
  if (block != nullptr && !block->freed) {
    *attributes = {cudaMemoryTypeDevice, block->device, const_cast<void*>(pointer), nullptr};
  } else if (is_pinned(pointer)) {
    *attributes = {cudaMemoryTypeHost, current_device(), const_cast<void*>(pointer),
                   const_cast<void*>(pointer)};
  }
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(runtime_lock());
  *stream = nullptr;
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  if (flags > cudaStreamNonBlocking) return noted(cudaErrorInvalidValue);
  *stream = create_stream(flags != cudaStreamNonBlocking);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(runtime_lock());
  return destroy_stream(stream) ? cudaSuccess : noted(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  CUstream_st* stream = stream_of(handle);
  return noted(stream == nullptr ? cudaErrorInvalidResourceHandle : wait_for(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  CUstream_st* stream = stream_of(handle);
  if (stream == nullptr) return noted(cudaErrorInvalidResourceHandle);
  return query(stream);
}
