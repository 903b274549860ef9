// SPDX-License-Identifier: Apache-2.0
// What tests of single CUDA kernels share: the tables of the device, and arrays that stay there
// while a kernel is launched again and again.
#pragma once

#include "tests/kernels/kernel_test.h"

namespace tenon::test {

// The tables that the opened device can run; none where there is no device.
std::vector<const KernelTable*> device_tables();

// A copy of a host array on the device, aligned as the allocator aligns it.
class DeviceArray {
 public:
  explicit DeviceArray(const GuardedArray& host)
      : host_(host), bytes_(host.count() * size_of(host.dtype())) {
    if (bytes_ == 0) return;
    block_ = memory_of(Device::kCUDA).allocate(bytes_);
    memory_of(Device::kCUDA).upload(block_, host_.host(), bytes_);
  }
  DeviceArray(const DeviceArray&) = delete;
  ~DeviceArray() {
    if (block_ != nullptr) memory_of(Device::kCUDA).release(block_, bytes_);
  }

  void* data() const { return block_; }
  float* floats() const { return static_cast<float*>(block_); }
  GuardedArray download() const {
    GuardedArray got = host_;
    if (bytes_ > 0) memory_of(Device::kCUDA).download(got.host(), block_, bytes_);
    return got;
  }

 private:
  GuardedArray host_;
  int64_t bytes_;
  void* block_ = nullptr;
};

// int32 values on the device; null where there are none.
class DeviceInts {
 public:
  explicit DeviceInts(const std::vector<int32_t>& values)
      : bytes_(static_cast<int64_t>(values.size()) * 4) {
    if (bytes_ == 0) return;
    block_ = memory_of(Device::kCUDA).allocate(bytes_);
    memory_of(Device::kCUDA).upload(block_, values.data(), bytes_);
  }
  DeviceInts(const DeviceInts&) = delete;
  ~DeviceInts() {
    if (block_ != nullptr) memory_of(Device::kCUDA).release(block_, bytes_);
  }

  int32_t* data() const { return static_cast<int32_t*>(block_); }

 private:
  int64_t bytes_;
  void* block_ = nullptr;
};

}  // namespace tenon::test
