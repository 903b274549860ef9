// SPDX-License-Identifier: Apache-2.0
// Kernels that keep the rules give right answers and raise no report, whatever the order of
// threads; kernels that break one are each caught.
#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"
#include "tests/cuda_on_cpu/test_kernels.h"

namespace tenon::cuda_on_cpu {
namespace {

constexpr int kCount = 102;  // no multiple of 4: the last 16 bytes are not all there

TEST_CASE("a kernel that keeps the rules is right under every order") {
  Playing playing({});
  Array<float> data(128);
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    playing.change({.seed = seed});
    for (const TestKernel& kernel : good_kernels()) {
      INFO(kernel.name << ", seed " << seed);
      start(kernel, data.get(), 128);
      const std::vector<float> result = data.download();
      REQUIRE(texts(take_reports()) == "");
      for (int i = 0; i < kernel.threads; ++i) REQUIRE(result[static_cast<size_t>(i)] == i);
    }
  }
}

TEST_CASE("a kernel that breaks a rule is caught under every order") {
  Playing playing({});
  const Array<float> data(kCount);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    playing.change({.seed = seed});
    for (const TestKernel& kernel : bad_kernels()) {
      INFO(kernel.name << ", seed " << seed);
      start(kernel, data.get(), kCount);
      CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
      const std::vector<Report> reports = take_reports();
      REQUIRE(reports.size() == 1);
      CHECK_THAT(kernel.kind, Catch::Contains(reports[0].kind));
      CHECK_THAT(reports[0].text,
                 Catch::Contains(std::string("kernel ") + kernel.name + ", block"));
    }
  }
}

TEST_CASE("a report names what a person needs") {
  const Playing playing({});
  const Array<float> data(kCount);
  const auto text_of = [&](const char* name) {
    for (const TestKernel& kernel : bad_kernels())
      if (std::strcmp(kernel.name, name) == 0) start(kernel, data.get(), kCount);
    cudaDeviceSynchronize();
    return texts(take_reports());
  };
  CHECK(text_of("before_begin") ==
        "out of bounds: kernel before_begin, block (0,0,0), thread (0,0,0): write of 4 bytes: "
        "4 bytes before an allocation of 408 bytes\n");
  CHECK_THAT(text_of("static_past_end"), Catch::Contains("past the end of 'first' of 32 bytes"));
  CHECK_THAT(text_of("atomic_against_read"), Catch::Contains("'counter' + 0 bytes, with nothing"));
  CHECK_THAT(text_of("two_barriers"), Catch::Contains("bad_kernels.cu:"));
}

TEST_CASE("blocks share a grid over threads and every one runs once") {
  for (const int threads : {1, 2, 3}) {
    const Playing playing({.threads = threads});
    const int rows = 257, columns = 391;
    std::vector<float> x(static_cast<size_t>(rows * columns));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 13) - 6;
    const Array<float> on_device(x);
    Array<float> sums(rows);
    start_row_sums(on_device.get(), sums.get(), rows, columns);
    const std::vector<float> result = sums.download();
    for (int row = 0; row < rows; ++row) {
      float sum = 0;
      for (int i = 0; i < columns; ++i) sum += x[static_cast<size_t>(row * columns + i)];
      REQUIRE(result[static_cast<size_t>(row)] == sum);
    }
    CHECK(texts(take_reports()) == "");
  }
}

TEST_CASE("a host pointer is no device pointer") {
  const Playing playing({});
  std::vector<float> host(64);
  start_add(host.data(), 64, 1);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(texts(take_reports()), Catch::Contains("host memory: kernel add"));
}

TEST_CASE("freed memory is no longer memory") {
  const Playing playing({});
  float* data = nullptr;
  REQUIRE(cudaMalloc(&data, 256) == cudaSuccess);
  REQUIRE(cudaFree(data) == cudaSuccess);
  start_add(data, 64, 1);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(texts(take_reports()), Catch::Contains("use after free"));
  CHECK(cudaFree(data) == cudaErrorInvalidValue);
}

TEST_CASE("memory of one device is out of reach of another") {
  const Playing playing({.devices = 2});
  const Array<float> data(64);
  REQUIRE(cudaSetDevice(1) == cudaSuccess);
  start_add(data.get(), 64, 1);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(texts(take_reports()), Catch::Contains("memory of device 0 on device 1"));
  cudaSetDevice(0);
}

TEST_CASE("the first violation stands until it is taken") {
  const Playing playing({});
  const Array<float> data(64);
  start_add(data.get(), 64, 1);
  start(bad_kernels()[0], data.get(), 64);
  CHECK(cudaDeviceSynchronize() == cudaErrorIllegalAddress);
  CHECK_THAT(cudaGetErrorString(cudaErrorIllegalAddress), Catch::Contains("missing_barrier"));
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
  void* more = nullptr;
  CHECK(cudaMalloc(&more, 16) == cudaErrorIllegalAddress);
  take_reports();
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("several threads of the host use the device at once") {
  const Playing playing({});
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t n = 0; n < 4; ++n) {
    threads.emplace_back([n, &wrong] {
      cudaStream_t stream = nullptr;
      cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
      set_stream(stream);
      Array<float> data(std::vector<float>(1000, 0.0f));
      for (int i = 0; i < 50; ++i) start_add(data.get(), 1000, static_cast<float>(n));
      cudaStreamSynchronize(stream);
      for (const float value : data.download()) wrong[n] += value != 50.0f * static_cast<float>(n);
      cudaStreamDestroy(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
  CHECK(texts(take_reports()) == "");
}

}  // namespace
}  // namespace tenon::cuda_on_cpu
