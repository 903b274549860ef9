// SPDX-License-Identifier: Apache-2.0
// The runtime's promises: what waits and what does not, who may touch which memory, what is
// refused.
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/cuda_on_cpu/device_array.h"

namespace tenon::cuda_on_cpu {
namespace {

// Runs `act` in a child process and returns the signal that ends it, or 0.
template <class Act>
int signal_of(Act act) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    if (freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    act();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

float* pinned(int count) {
  float* block = nullptr;
  REQUIRE(cudaMallocHost(&block, static_cast<size_t>(count) * 4) == cudaSuccess);
  return block;
}

TEST_CASE("host code that touches device memory is stopped") {
  const Playing playing({});
  const Array<float> data(std::vector<float>(64, 1.0f));
  volatile float* p = data.get();
  CHECK(signal_of([p] { p[3] = 1; }) == SIGABRT);
  CHECK(signal_of([p] { std::exit(p[3] == 1); }) == SIGABRT);
  CHECK(signal_of([p] { start_add(const_cast<float*>(p), 64, 1); }) == 0);
}

// Blocks that share pages, and one of many pages, are freed out of order.
TEST_CASE("freed memory closes and its neighbours stay") {
  const Playing playing({});
  std::vector<std::unique_ptr<Array<float>>> blocks;
  for (int i = 0; i < 60; ++i) {
    const size_t count = i % 10 == 7 ? 5000 : 100;
    blocks.push_back(
        std::make_unique<Array<float>>(std::vector<float>(count, static_cast<float>(i))));
  }
  std::vector<volatile float*> freed;
  for (size_t i = 0; i < 60; ++i) {
    auto& block = blocks[i * 23 % 60];
    if (i % 4 == 3) continue;
    freed.push_back(block->get());
    block.reset();
    for (size_t n = 0; n < 60; ++n)
      if (blocks[n] != nullptr) REQUIRE(blocks[n]->download()[99] == static_cast<float>(n));
  }
  CHECK(texts(take_reports()) == "");
  for (size_t i = 0; i < freed.size(); i += 9) CHECK(signal_of([&] { *freed[i] = 1; }) == SIGABRT);
  for (const auto& block : blocks) {
    if (block == nullptr) continue;
    volatile float* p = block->get();
    CHECK(signal_of([p] { p[0] = 1; }) == SIGABRT);
  }
}

TEST_CASE("a kernel that runs over its stack is stopped") {
  const Playing playing({});
  CHECK(signal_of([] {
          start_deep(1 << 20);
          cudaDeviceSynchronize();
        }) == SIGABRT);
}

TEST_CASE("memory comes with NaN and up to the device's size") {
  const Playing playing({.memory = 1 << 20});
  const Array<uint32_t> data(100);
  for (const uint32_t word : data.download()) CHECK(word == 0xffffffffu);
  size_t left = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&left, &total) == cudaSuccess);
  CHECK(total == 1 << 20);
  CHECK(total - left == 400);
  void* block = nullptr;
  CHECK(cudaMalloc(&block, 1 << 20) == cudaErrorMemoryAllocation);
  CHECK(block == nullptr);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMalloc(&block, (1 << 20) - 400) == cudaSuccess);
  CHECK(cudaFree(block) == cudaSuccess);
}

TEST_CASE("pinned memory is read and written when the stream gets there") {
  const Playing playing({});
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  const Array<float> data(std::vector<float>(4, 1.0f));
  float* host = pinned(4);
  host[0] = 7;
  REQUIRE(cudaMemcpyAsync(host, data.get(), 16, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(host[0] == 7);  // too early
  CHECK(cudaStreamQuery(stream) == cudaErrorNotReady);
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(host[0] == 1);
  REQUIRE(cudaMemcpyAsync(data.get(), host, 16, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  host[0] = 9;  // too early
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(data.download()[0] == 9);
  float pageable[4] = {3, 3, 3, 3};
  REQUIRE(cudaMemcpyAsync(data.get(), pageable, 16, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  pageable[0] = 4;  // it has been copied
  REQUIRE(cudaMemcpyAsync(pageable, data.get(), 16, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  CHECK(pageable[0] == 3);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaFreeHost(host) == cudaSuccess);
}

TEST_CASE("streams are ordered by events alone") {
  const Playing playing({});
  const bool waits = GENERATE(false, true);
  cudaStream_t first = nullptr, second = nullptr;
  cudaEvent_t event = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  const Array<float> data(std::vector<float>(64, 0.0f));
  float* host = pinned(64);
  set_stream(first);
  start_add(data.get(), 64, 5);
  REQUIRE(cudaEventRecord(event, first) == cudaSuccess);
  if (waits) REQUIRE(cudaStreamWaitEvent(second, event) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(host, data.get(), 256, cudaMemcpyDeviceToHost, second) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(second) == cudaSuccess);
  CHECK(host[0] == (waits ? 5 : 0));
  CHECK(cudaEventQuery(event) == (waits ? cudaSuccess : cudaErrorNotReady));
  CHECK(cudaEventSynchronize(event) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaSuccess);
  CHECK(data.download()[0] == 5);
  cudaEventDestroy(event);
  cudaStreamDestroy(first);
  cudaStreamDestroy(second);
  cudaFreeHost(host);
}

TEST_CASE("the default stream waits for blocking streams and they for it") {
  const Playing playing({});
  const unsigned flags = GENERATE(cudaStreamDefault, cudaStreamNonBlocking);
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess);
  const Array<float> data(std::vector<float>(64, 0.0f));
  set_stream(stream);
  start_add(data.get(), 64, 5);
  CHECK(data.download()[0] == (flags == cudaStreamDefault ? 5 : 0));
  cudaStreamDestroy(stream);
}

TEST_CASE("events measure time, and only after they passed") {
  const Playing playing({});
  cudaEvent_t begin = nullptr, end = nullptr, untimed = nullptr;
  REQUIRE(cudaEventCreate(&begin) == cudaSuccess);
  REQUIRE(cudaEventCreate(&end) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming) == cudaSuccess);
  const Array<float> data(64);
  REQUIRE(cudaEventRecord(begin) == cudaSuccess);
  start_add(data.get(), 64, 5);
  REQUIRE(cudaEventRecord(end) == cudaSuccess);
  REQUIRE(cudaEventRecord(untimed) == cudaSuccess);
  float milliseconds = -1;
  CHECK(cudaEventElapsedTime(&milliseconds, begin, end) == cudaErrorNotReady);
  REQUIRE(cudaEventSynchronize(end) == cudaSuccess);
  CHECK(cudaEventElapsedTime(&milliseconds, begin, end) == cudaSuccess);
  CHECK(milliseconds > 0);
  CHECK(cudaEventElapsedTime(&milliseconds, begin, untimed) == cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {begin, end, untimed})
    CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaEventRecord(begin) == cudaErrorInvalidResourceHandle);
}

TEST_CASE("copies to the wrong side or beyond the end are refused") {
  const Playing playing({});
  const Array<float> data(64), other(64);
  std::vector<float> host(65);
  const auto kind_of = [](cudaError_t error) {
    CHECK(error != cudaSuccess);
    const std::vector<Report> reports = take_reports();
    return reports.size() == 1 ? reports[0].kind : "";
  };
  CHECK(kind_of(cudaMemcpy(data.get(), host.data(), 260, cudaMemcpyHostToDevice)) == "copy");
  CHECK(kind_of(cudaMemcpy(host.data(), host.data(), 16, cudaMemcpyHostToDevice)) == "copy");
  CHECK(kind_of(cudaMemcpy(data.get(), other.get(), 16, cudaMemcpyHostToDevice)) == "copy");
  CHECK(kind_of(cudaMemcpy(data.get(), other.get(), 16, cudaMemcpyDeviceToHost)) == "copy");
  CHECK(kind_of(cudaMemset(host.data(), 0, 16)) == "memset");
  CHECK(kind_of(cudaMemset(data.get() + 1, 0, 256)) == "memset");
  CHECK(kind_of(cudaMemcpy2DAsync(data.get(), 32, host.data(), 32, 16, 9,
                                  cudaMemcpyHostToDevice)) == "copy");
  CHECK(cudaMemcpy2DAsync(data.get(), 8, host.data(), 32, 16, 2, cudaMemcpyHostToDevice) ==
        cudaErrorInvalidPitchValue);
  CHECK(take_reports().empty());
  CHECK(cudaMemcpy(data.get(), host.data(), 0, cudaMemcpyHostToDevice) == cudaSuccess);
}

TEST_CASE("a pitched copy leaves the rest alone") {
  const Playing playing({});
  const Array<float> data(std::vector<float>(12, 1.0f));
  const std::vector<float> host = {1, 2, 3, 4, 5, 6};
  REQUIRE(cudaMemcpy2DAsync(data.get() + 1, 16, host.data(), 8, 8, 3, cudaMemcpyHostToDevice) ==
          cudaSuccess);
  CHECK(data.download() == std::vector<float>{1, 1, 2, 1, 1, 3, 4, 1, 1, 5, 6, 1});
}

TEST_CASE("launches beyond the limits are refused") {
  const Playing playing({.sm = 75});
  const auto refused = [](dim3 blocks, dim3 threads, int64_t shared_bytes, const char* error) {
    CHECK_THROWS_WITH(start_sized(blocks, threads, shared_bytes), Catch::Contains(error));
  };
  start_sized(dim3(2, 3, 2), dim3(4, 4, 4), 64 * 1024);
  start_sized(dim3(0), dim3(0), 0);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
  refused(dim3(1), dim3(1025), 0, "cudaErrorInvalidConfiguration");
  refused(dim3(1), dim3(1, 1, 65), 0, "cudaErrorInvalidConfiguration");
  refused(dim3(1, 65536), dim3(1), 0, "cudaErrorInvalidConfiguration");
  refused(dim3(1, 1, 65536), dim3(1), 0, "cudaErrorInvalidConfiguration");
  refused(dim3(1), dim3(1), 64 * 1024 + 1, "cudaErrorInvalidValue");
}

TEST_CASE("48 KB of dynamic shared memory need no asking, more do") {
  const Playing playing({.sm = 90});
  CHECK(start_raw(48 * 1024) == cudaSuccess);
  const Array<float> data(32);
  start_full_shared(data.get(), 227 * 1024);
  CHECK(data.download()[0] == 227 * 256 - 1);
  CHECK(texts(take_reports()) == "");
  CHECK_THROWS(start_full_shared(data.get(), 227 * 1024 + 4));
}

TEST_CASE("the machine is the one asked for") {
  Playing playing({.sm = 86, .memory = 1 << 28, .devices = 2});
  int count = 0, value = 0;
  REQUIRE(cudaGetDeviceCount(&count) == cudaSuccess);
  CHECK(count == 2);
  cudaDeviceProp properties;
  REQUIRE(cudaGetDeviceProperties(&properties, 1) == cudaSuccess);
  CHECK(properties.major == 8);
  CHECK(properties.minor == 6);
  CHECK(properties.totalGlobalMem == 1 << 28);
  CHECK(properties.sharedMemPerBlockOptin == 99 * 1024);
  REQUIRE(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0) ==
          cudaSuccess);
  CHECK(value == 99 * 1024);
  CHECK(cudaSetDevice(2) == cudaErrorInvalidDevice);
  CHECK(cudaGetDeviceProperties(&properties, 2) == cudaErrorInvalidDevice);
  playing.change({.driver = Driver::kAbsent});
  CHECK(cudaGetDeviceCount(&count) == cudaErrorNoDevice);
  CHECK(count == 0);
  playing.change({.driver = Driver::kTooOld});
  CHECK(cudaGetDeviceCount(&count) == cudaErrorInsufficientDriver);
  void* block = nullptr;
  CHECK(cudaMalloc(&block, 4) == cudaErrorInsufficientDriver);
}

TEST_CASE("pointers tell what they are") {
  const Playing playing({});
  const Array<float> data(64);
  float* host = pinned(4);
  int local = 0;
  cudaPointerAttributes attributes;
  REQUIRE(cudaPointerGetAttributes(&attributes, data.get() + 63) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeDevice);
  REQUIRE(cudaPointerGetAttributes(&attributes, host) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeHost);
  REQUIRE(cudaPointerGetAttributes(&attributes, &local) == cudaSuccess);
  CHECK(attributes.type == cudaMemoryTypeUnregistered);
  cudaFreeHost(host);
}

}  // namespace
}  // namespace tenon::cuda_on_cpu
