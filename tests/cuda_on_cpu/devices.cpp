// SPDX-License-Identifier: Apache-2.0
// The runtime's functions for devices, events and errors.
#include <cstdio>
#include <cstring>

#include "tests/cuda_on_cpu/machine.h"
#include "tests/cuda_on_cpu/streams.h"

namespace tenon::cuda_on_cpu {
namespace {

using Lock = std::lock_guard<std::recursive_mutex>;

constexpr int kVersion = CUDART_VERSION;
constexpr int kMultiprocessors = 4;  // few, so that grids which depend on it stay small

std::set<CUevent_st*> events;

cudaError_t driver_error() {
  switch (config().driver) {
    case Driver::kAbsent: return cudaErrorNoDevice;
    case Driver::kTooOld: return cudaErrorInsufficientDriver;
    case Driver::kPresent: break;
  }
  return config().devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}

struct ErrorName {
  cudaError_t error;
  const char *name, *text;
};

const ErrorName kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidDevicePointer, "cudaErrorInvalidDevicePointer", "invalid device pointer"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};

const ErrorName& find(cudaError_t error) {
  static const ErrorName unknown = {error, "unrecognized error code", "unrecognized error code"};
  for (const ErrorName& each : kErrors)
    if (each.error == error) return each;
  return unknown;
}

}  // namespace

cudaError_t obstacle() {
  const cudaError_t error = driver_error();
  return error != cudaSuccess ? error : standing_error();
}

// The programming guide's table of technical specifications.
int64_t shared_limit() {
  switch (config().sm) {
    case 70: return 96 * 1024;
    case 75: return 64 * 1024;
    case 80:
    case 87: return 163 * 1024;
    case 86:
    case 89:
    case 120: return 99 * 1024;
    default: return 227 * 1024;
  }
}

}  // namespace tenon::cuda_on_cpu

using namespace tenon::cuda_on_cpu;

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Lock lock(runtime_lock());
  *event = nullptr;
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  *event = new CUevent_st;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  events.insert(*event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Lock lock(runtime_lock());
  if (events.erase(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  CUstream_st* stream = stream_of(handle);
  if (stream == nullptr || events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  event->stream = stream;
  return noted(enqueue_task(
      stream,
      [reached = event->reached] {
        *reached = std::chrono::steady_clock::now();
        return cudaSuccess;
      },
      &event->ticket));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  CUstream_st* stream = stream_of(handle);
  if (stream == nullptr || events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  if (event->stream == nullptr || !exists(event->stream)) return cudaSuccess;
  return noted(enqueue_task(stream, [other = event->stream, ticket = event->ticket] {
    return exists(other) ? drain(other, ticket) : cudaSuccess;
  }));
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  if (events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  if (event->stream == nullptr || !exists(event->stream)) return cudaSuccess;
  return query(event->stream, event->ticket);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  if (events.count(event) == 0) return noted(cudaErrorInvalidResourceHandle);
  if (event->stream == nullptr || !exists(event->stream)) return cudaSuccess;
  return noted(wait_for(event->stream, event->ticket));
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  for (const cudaEvent_t event : {start, end}) {
    if (events.count(event) == 0 || !event->timed || event->stream == nullptr)
      return noted(cudaErrorInvalidResourceHandle);
    if (exists(event->stream) && query(event->stream, event->ticket) == cudaErrorNotReady)
      return cudaErrorNotReady;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(*end->reached - *start->reached).count();
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime_lock());
  if (const cudaError_t error = obstacle(); error != cudaSuccess) return noted(error);
  return noted(wait_for_device(current_device()));
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 0;
  if (const cudaError_t error = driver_error(); error != cudaSuccess) return noted(error);
  *count = config().devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = driver_error(); error != cudaSuccess) return noted(error);
  if (device < 0 || device >= config().devices) return noted(cudaErrorInvalidDevice);
  set_current_device(device);
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  if (const cudaError_t error = driver_error(); error != cudaSuccess) return noted(error);
  *device = current_device();
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = driver_error(); error != cudaSuccess) return noted(error);
  if (device < 0 || device >= config().devices) return noted(cudaErrorInvalidDevice);
  const Config present = config();
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "CUDA on CPU, sm_%d", present.sm);
  properties->totalGlobalMem = static_cast<size_t>(present.memory);
  properties->sharedMemPerBlock = 48 * 1024;
  properties->sharedMemPerBlockOptin = static_cast<size_t>(shared_limit());
  properties->sharedMemPerMultiprocessor = properties->sharedMemPerBlockOptin + 1024;
  properties->regsPerBlock = 65536;
  properties->warpSize = kWarp;
  properties->maxThreadsPerBlock = kMaxThreads;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
  properties->maxThreadsDim[2] = 64;
  properties->maxGridSize[0] = 0x7fffffff;
  properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
  properties->major = present.sm / 10;
  properties->minor = present.sm % 10;
  properties->multiProcessorCount = kMultiprocessors;
  properties->maxThreadsPerMultiProcessor = present.sm == 75 ? 1024 : 2048;
  properties->l2CacheSize = 4 << 20;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, device); error != cudaSuccess)
    return error;
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(p.sharedMemPerBlock);
      return cudaSuccess;
    case cudaDevAttrWarpSize: *value = p.warpSize; return cudaSuccess;
    case cudaDevAttrClockRate:
      *value = 1000000;  // kHz
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; return cudaSuccess;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = p.maxThreadsPerMultiProcessor;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(p.sharedMemPerMultiprocessor);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(p.sharedMemPerBlockOptin);
      return cudaSuccess;
  }
  return noted(cudaErrorInvalidValue);
}

// Without a driver CUDA reports its version as 0, and that is no error.
cudaError_t cudaDriverGetVersion(int* version) {
  *version = config().driver == Driver::kPresent  ? kVersion
             : config().driver == Driver::kTooOld ? 11000
                                                  : 0;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const Lock lock(runtime_lock());
  return last_error(true);
}

cudaError_t cudaPeekAtLastError() {
  const Lock lock(runtime_lock());
  return last_error(false);
}

const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorIllegalAddress && any_report()) return first_report();
  return find(error).text;
}

const char* cudaGetErrorName(cudaError_t error) { return find(error).name; }
