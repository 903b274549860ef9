// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/matmul_choice.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "core/device.h"
#include "kernels/cuda/runtime.h"

namespace tenon::cuda {
namespace {

std::atomic<bool> is_timed{true};
std::atomic<MatmulPath> chosen_path{MatmulPath::kAutomatic};

class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "timing products"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() { check(cudaEventRecord(event_, stream()), "timing products"); }
  float milliseconds_since(const Event& begin) {
    check(cudaEventSynchronize(event_), "timing products");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "timing products");
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

void set_timed(bool timed) { is_timed = timed; }
bool timed() { return is_timed; }

void set_matmul_path(MatmulPath path) { chosen_path = path; }
MatmulPath matmul_path() { return chosen_path; }

float milliseconds(const std::function<void()>& run) {
  run();
  Event begin, end;
  std::array<float, 3> times;
  for (float& time : times) {
    begin.record();
    run();
    end.record();
    time = end.milliseconds_since(begin);
  }
  std::sort(times.begin(), times.end());
  return times[1];
}

int64_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer) | 256;
  return static_cast<int64_t>(address & -address);
}

void* timed_result(void* c, int64_t bytes, bool accumulate) {
  return accumulate ? device_scratch(kTimedResult, bytes) : c;
}

bool own_is_faster(const ProblemKey& key, const std::function<void()>& own,
                   const std::function<void()>& library) {
  static std::mutex mutex;
  static std::map<ProblemKey, bool> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  const bool faster = milliseconds(own) < milliseconds(library);
  known.emplace(key, faster);
  return faster;
}

}  // namespace tenon::cuda
