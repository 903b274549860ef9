// SPDX-License-Identifier: Apache-2.0
// What the harness's tests share: an array on the device, and a configuration for one test.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/cuda_on_cpu/test_kernels.h"

namespace tenon::cuda_on_cpu {

template <class T>
class Array {
 public:
  explicit Array(int64_t count) : count_(static_cast<size_t>(count)) {
    if (cudaMalloc(&data_, count_ * sizeof(T)) != cudaSuccess)
      throw std::runtime_error("cudaMalloc");
  }
  explicit Array(const std::vector<T>& values) : Array(static_cast<int64_t>(values.size())) {
    cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* get() const { return data_; }
  std::vector<T> download() const {
    std::vector<T> values(count_);
    cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// Plays the machine of `config` for one test, quietly, and forgets the test's reports.
class Playing {
 public:
  explicit Playing(const Config& config) : before_(tenon::cuda_on_cpu::config()) {
    set_quiet(true);
    change(config);
  }
  ~Playing() {
    take_reports();
    set_stream(nullptr);
    configure(before_);
    set_quiet(false);
  }
  Playing(const Playing&) = delete;
  void change(const Config& config) { configure(config); }

 private:
  Config before_;
};

// "kind: text" of each report, one a line.
inline std::string texts(const std::vector<Report>& reports) {
  std::string all;
  for (const Report& report : reports) all += report.kind + ": " + report.text + "\n";
  return all;
}

}  // namespace tenon::cuda_on_cpu
