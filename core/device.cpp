// SPDX-License-Identifier: Apache-2.0
#include "core/device.h"

#include <array>
#include <cstring>
#include <memory>

#include "core/backend.h"
#include "core/counting.h"
#include "core/error.h"
#include "core/storage.h"

namespace tenon {
namespace {

const DeviceMemory kHostMemory = {
    .upload = [](void* to, const void* from,
                 int64_t bytes) { std::memcpy(to, from, static_cast<size_t>(bytes)); },
    .download = [](void* to, const void* from,
                   int64_t bytes) { std::memcpy(to, from, static_cast<size_t>(bytes)); },
    .copy = [](void* to, const void* from,
               int64_t bytes) { std::memcpy(to, from, static_cast<size_t>(bytes)); },
    .zero = [](void* to, int64_t bytes) { std::memset(to, 0, static_cast<size_t>(bytes)); },
    .synchronize = [] {},
    .failure = []() -> const char* { return nullptr; }};

// Of a dry run: nothing is moved.
const DeviceMemory kCountedMemory = {.upload = [](void*, const void*, int64_t) {},
                                     .download = [](void*, const void*, int64_t) {},
                                     .copy = [](void*, const void*, int64_t) {},
                                     .zero = [](void*, int64_t) {},
                                     .synchronize = [] {},
                                     .failure = []() -> const char* { return nullptr; }};

}  // namespace

const DeviceMemory& memory_of(Device device) {
  if (device == Device::kCPU) return counting() != nullptr ? kCountedMemory : kHostMemory;
  TENON_CHECK(cuda::backend().memory != nullptr, "[device] this program was built without CUDA");
  return *cuda::backend().memory;
}

void* device_scratch(int slot, int64_t bytes) {
  // Threads share the card and its stream, and so the scratch that goes with it: but two threads
  // must not have kernels of one slot in each other's way, so each has its own.
  thread_local std::array<std::shared_ptr<Storage>, 8> slots;
  std::shared_ptr<Storage>& held = slots.at(static_cast<size_t>(slot));
  if (held == nullptr || held->bytes() < bytes) {
    held = nullptr;  // given back before more is asked for
    held = Storage::allocate(bytes, MemoryKind::kWorkspace, Device::kCUDA);
  }
  return held->data();
}

}  // namespace tenon
