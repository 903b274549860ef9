// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/staging.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <mutex>

#include "kernels/cuda/runtime.h"

namespace tenon::cuda {
namespace {

// Two buffers: while the card reads one, the host fills the other.
constexpr int64_t kBufferBytes = int64_t{8} << 20;
constexpr int64_t kAlignment = 256;

struct Buffer {
  std::byte* bytes = nullptr;  // pinned
  cudaEvent_t read = nullptr;  // the card has read all that was put in
  int64_t used = 0;

  void prepare() {
    stream();  // the thread's card, before anything is made on it
    if (bytes != nullptr) return;
    void* block = nullptr;
    check(cudaMallocHost(&block, kBufferBytes), "pinning memory of the host");
    check(cudaEventCreateWithFlags(&read, cudaEventDisableTiming), "making an event");
    bytes = static_cast<std::byte*>(block);
  }
};

// Bytes on their way to the card lie in a buffer until its event has passed. Small copies share a
// buffer, so that a step which sends a few arrays of token ids waits for nothing.
class Upload {
 public:
  void send(std::byte* to, const std::byte* from, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    while (bytes > 0) {
      if (buffers_[current_].used == kBufferBytes) turn();
      Buffer& buffer = buffers_[current_];
      buffer.prepare();
      const int64_t part = std::min(bytes, kBufferBytes - buffer.used);
      std::byte* pinned = buffer.bytes + buffer.used;
      std::memcpy(pinned, from, static_cast<size_t>(part));
      check(
          cudaMemcpyAsync(to, pinned, static_cast<size_t>(part), cudaMemcpyHostToDevice, stream()),
          "copying to the device");
      buffer.used =
          std::min(kBufferBytes, buffer.used + (part + kAlignment - 1) / kAlignment * kAlignment);
      to += part;
      from += part;
      bytes -= part;
    }
  }

 private:
  // Leaves the full buffer to the card and takes the other when the card is done with that.
  void turn() {
    check(cudaEventRecord(buffers_[current_].read, stream()), "recording an event");
    current_ = 1 - current_;
    Buffer& next = buffers_[current_];
    if (next.used > 0) check(cudaEventSynchronize(next.read), "waiting for a copy to the device");
    next.used = 0;
  }

  std::mutex mutex_;
  std::array<Buffer, 2> buffers_;
  size_t current_ = 0;
};

class Download {
 public:
  void receive(std::byte* to, const std::byte* from, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    buffer_.prepare();
    for (int64_t at = 0; at < bytes; at += kBufferBytes) {
      const auto part = static_cast<size_t>(std::min(bytes - at, kBufferBytes));
      check(cudaMemcpyAsync(buffer_.bytes, from + at, part, cudaMemcpyDeviceToHost, stream()),
            "copying to the host");
      check(cudaStreamSynchronize(stream()), "waiting for a copy to the host");
      std::memcpy(to + at, buffer_.bytes, part);
    }
  }

 private:
  std::mutex mutex_;
  Buffer buffer_;
};

}  // namespace

void upload(void* to, const void* from, int64_t bytes) {
  static Upload* uploads = new Upload;  // pinned memory goes with the process
  uploads->send(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
}

void download(void* to, const void* from, int64_t bytes) {
  static Download* downloads = new Download;
  downloads->receive(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
}

}  // namespace tenon::cuda
