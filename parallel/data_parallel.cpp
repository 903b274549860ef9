// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "parallel/strategy.h"

namespace tenon {
namespace {

// Gradients that lie one after the other in one buffer and travel as one all-reduce.
struct Bucket {
  Tensor buffer;  // (elements), fp32
  Tensor sent;    // its bytes on the host, which is what travels; the buffer itself on the CPU
  int parameters = 0;
  int waiting = 0;  // parameters whose gradient is not final yet
  Work work;
};

class DataParallel final : public Strategy {
 public:
  DataParallel(Communicator& group, int64_t bucket_bytes)
      : group_(group), bucket_bytes_(bucket_bytes) {}

  // Moves the gradients into buckets. Backward runs the model from its end, so the last visited
  // parameters come first.
  void place(Model& model) override {
    std::vector<GradSlot*> slots;
    model.visit_parameters([&](const std::string&, Parameter& parameter) {
      if (parameter.trainable) slots.push_back(parameter.value.slot().get());
    });
    std::reverse(slots.begin(), slots.end());
    for (size_t begin = 0; begin < slots.size();) {
      size_t end = begin;
      int64_t elements = 0;
      while (end < slots.size() &&
             (end == begin || (elements + slots[end]->grad.numel()) * 4 <= bucket_bytes_)) {
        elements += slots[end++]->grad.numel();
      }
      fill_bucket(slots, begin, end, elements);
      begin = end;
    }
  }

  void before_last_backward() override {
    armed_ = true;
    next_ = 0;
    for (Bucket& bucket : buckets_) bucket.waiting = bucket.parameters;
  }

  void before_step() override {
    while (next_ < buckets_.size())
      send(buckets_[next_++]);  // gradients that no backward pass reached
    for (Bucket& bucket : buckets_) {
      bucket.work.wait();
      if (bucket.sent.defined()) bucket.buffer.assign(std::exchange(bucket.sent, {}));
    }
    armed_ = false;
    next_ = 0;
  }

  void reduce(const Tensor& gradient) override {
    if (group_.size() == 1) return;
    group_.all_reduce({gradient.raw(), gradient.numel(), DType::kF32}, Reduce::kSum).wait();
  }

 private:
  void fill_bucket(const std::vector<GradSlot*>& slots, size_t begin, size_t end,
                   int64_t elements) {
    const size_t index = buckets_.size();
    Bucket bucket{.buffer = Tensor::zeros({elements}, DType::kF32, slots[begin]->grad.device(),
                                          MemoryKind::kGradients)};
    int64_t offset = 0;
    for (size_t i = begin; i < end; ++i) {
      GradSlot& slot = *slots[i];
      const Shape shape = slot.grad.shape();
      slot.grad = bucket.buffer.rows(offset, offset + shape.numel()).view(shape);
      offset += shape.numel();
      ++bucket.parameters;
      slot.on_ready = [this, index] { ready(index); };
    }
    buckets_.push_back(std::move(bucket));
  }

  // Every rank must make the same calls in the same order, so a bucket waits for those before it.
  void ready(size_t index) {
    if (!armed_) return;
    --buckets_[index].waiting;
    while (next_ < buckets_.size() && buckets_[next_].waiting == 0) send(buckets_[next_++]);
  }

  void send(Bucket& bucket) {
    if (group_.size() == 1) return;  // nothing to add, and a card need not be waited for
    bucket.sent = bucket.buffer.to(Device::kCPU, MemoryKind::kWorkspace);
    bucket.work =
        group_.all_reduce({bucket.sent.raw(), bucket.sent.numel(), DType::kF32}, Reduce::kSum);
  }

  Communicator& group_;
  int64_t bucket_bytes_;
  std::vector<Bucket> buckets_;
  size_t next_ = 0;     // first bucket that is not on its way
  bool armed_ = false;  // the step's last backward pass is running
};

}  // namespace

std::unique_ptr<Strategy> data_parallel(Communicator& group, int64_t bucket_bytes) {
  TENON_CHECK(bucket_bytes > 0, "[data_parallel] a bucket of {} bytes", bucket_bytes);
  return std::make_unique<DataParallel>(group, bucket_bytes);
}

}  // namespace tenon
