// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/runtime.h"

#include <atomic>
#include <cstring>
#include <string>

#include "core/cuda_backend.h"
#include "core/error.h"
#include "kernels/cuda/select.h"
#include "kernels/cuda/staging.h"

namespace tenon::cuda {
namespace {

struct OpenCard {
  int index = -1;
  cudaStream_t stream = nullptr;
};
OpenCard card;
std::atomic<const char*> last_launch = nullptr;

// A text that lives until the calling thread's next one.
const char* kept(std::string text) {
  thread_local std::string held;
  held = std::move(text);
  return held.c_str();
}

std::string text_of(cudaError_t error) {
  return fmt::format("{} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
}

int cards(const char** why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    *why = kept(
        fmt::format("no NVIDIA driver for CUDA {}: {}", CUDART_VERSION / 1000, text_of(error)));
  } else if (error != cudaSuccess) {
    *why = kept(fmt::format("no CUDA device: {}", text_of(error)));
  } else if (count == 0) {
    *why = "no CUDA device";
  }
  if (error == cudaSuccess) return count;
  cudaGetLastError();  // told; it must not be found again after the next launch
  return 0;
}

bool describe(int index, Card* described, const char** why) {
  cudaDeviceProp properties{};
  const cudaError_t error = cudaGetDeviceProperties(&properties, index);
  if (error != cudaSuccess) {
    *why = kept(text_of(error));
    return false;
  }
  std::memcpy(described->name, properties.name, sizeof(described->name));
  described->name[sizeof(described->name) - 1] = '\0';
  described->capability = 10 * properties.major + properties.minor;
  return true;
}

bool open(int index, const char** why) {
  OpenCard opened{.index = index};
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess)
    error = cudaStreamCreateWithFlags(&opened.stream, cudaStreamNonBlocking);
  if (error != cudaSuccess) {
    *why = kept(text_of(error));
    return false;
  }
  card = opened;
  return true;
}

void capacity(int64_t* free_bytes, int64_t* total_bytes) {
  stream();
  size_t left = 0, total = 0;
  check(cudaMemGetInfo(&left, &total), "asking for the free memory");
  *free_bytes = static_cast<int64_t>(left);
  *total_bytes = static_cast<int64_t>(total);
}

void* allocate(int64_t bytes) {
  stream();
  void* block = nullptr;
  const cudaError_t error = cudaMalloc(&block, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return nullptr;
  }
  check(error, "allocating memory");
  return block;
}

// cudaFree waits for what still uses the block.
void release(void* block, int64_t) {
  stream();
  check(cudaFree(block), "giving memory back");
}

void copy(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice, stream()),
        "copying on the device");
}

void zero(void* to, int64_t bytes) {
  check(cudaMemsetAsync(to, 0, static_cast<size_t>(bytes), stream()), "clearing memory");
}

void synchronize() { check(cudaStreamSynchronize(stream()), "waiting for the device"); }

const char* failure() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : kept(text_of(error));
}

const DeviceMemory kMemory = {.allocate = allocate,
                              .release = release,
                              .upload = upload,
                              .download = download,
                              .copy = copy,
                              .zero = zero,
                              .synchronize = synchronize,
                              .failure = failure};

}  // namespace

cudaStream_t stream() {
  thread_local int set = -1;
  if (card.index < 0) fail(Exit::kInternal, "[cuda] no card was opened");
  if (set != card.index) {
    check(cudaSetDevice(card.index), "choosing the card");
    set = card.index;
  }
  return card.stream;
}

void check(cudaError_t error, const char* doing) {
  if (error == cudaSuccess) return;
  const char* kernel = last_launch.load();
  fail(Exit::kInternal, "[cuda] {}: {}; the last kernel launched was {}", doing, text_of(error),
       kernel == nullptr ? "none" : kernel);
}

void note_launch(const char* kernel) { last_launch = kernel; }

const Backend& backend() {
  static const Backend here = {.cards = cards,
                               .describe = describe,
                               .open = open,
                               .memory = &kMemory,
                               .capacity = capacity,
                               .implementations = implementations(),
                               .implementation_count = implementation_count()};
  return here;
}

}  // namespace tenon::cuda
