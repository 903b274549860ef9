// SPDX-License-Identifier: Apache-2.0
#include "train/plan.h"

#include <algorithm>
#include <chrono>
#include <future>

#include "core/backend.h"
#include "core/ops.h"
#include "core/parallel_for.h"
#include "models/base_stream.h"
#include "models/dora.h"
#include "train/choices.h"
#include "train/job.h"
#include "train/micro_batch.h"
#include "train/optimizer.h"
#include "train/trainer.h"

namespace tenon {
namespace {

// More micro-batches than these are not made one by one: each is as the one before.
constexpr int64_t kMostRounds = 32;

// A dry run has a group of one rank: what the messages of others take on top, frames of a bucket of
// gradients, is about a bucket's size (4 MiB) and never two.
constexpr int64_t kMessages = int64_t{8} << 20;

// Rows that are full, every token of which is scored.
Batch full_batch(int64_t rows, int64_t length) {
  Batch batch{.rows = rows, .length = length, .scored = rows * length};
  const auto size = static_cast<size_t>(rows * length);
  batch.ids.assign(size, 0);
  batch.targets.assign(size, 0);
  batch.doc_start.assign(size, 0);
  batch.positions.resize(size);
  for (size_t i = 0; i < size; ++i)
    batch.positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length);
  return batch;
}

// The step of a rank, as the trainer takes it.
class DryStep {
 public:
  DryStep(Job& job, Counting& dry, Ranks ranks)
      : job_(job),
        dry_(dry),
        group_(make_self()),
        optimizer_(*job.model, optimizer_options(job.options, {})),
        strategy_(data_parallel(*group_)),
        sequences_((job.options.batch + ranks.all - 1) / ranks.all),
        micro_batch_(
            std::min(micro_batch_of(job.options, job.options.seq_len, ranks.all), sequences_)) {
    if (updates_in_backward(job.options)) {
      in_backward_.emplace(optimizer_, *strategy_);
    } else {
      strategy_->place(*job.model);
    }
    update_norms(*job.model);
  }

  int64_t sequences() const { return sequences_; }
  int64_t micro_batch() const { return micro_batch_; }

  // Returns the seconds that it takes by the rates.
  double run() {
    const int64_t rounds = (sequences_ + micro_batch_ - 1) / micro_batch_;
    const int64_t made = rounds <= kMostRounds ? rounds : 2;
    optimizer_.zero_gradients();
    if (in_backward_) in_backward_->begin_step({1e-4, 1, job_.options.clip});
    std::vector<LossSum> losses;
    double seconds = -dry_.seconds(), first = 0;
    for (int64_t round = 0; round < made; ++round) {
      const bool last = round + 1 == made;
      const int64_t rows = last ? sequences_ - (rounds - 1) * micro_batch_ : micro_batch_;
      losses.push_back(run_micro_batch(
          {job_.options, *job_.model, *strategy_, in_backward_ ? &*in_backward_ : nullptr},
          {.batch = full_batch(rows, job_.options.seq_len), .last = last}));
      if (round == 0) first = dry_.seconds() + seconds;
    }
    strategy_->before_step();
    if (in_backward_) {
      in_backward_->finish_step();
    } else {
      optimizer_.step(1e-4, 1, job_.options.clip);
    }
    update_norms(*job_.model);
    seconds += dry_.seconds() + static_cast<double>(rounds - made) * first;
    strategy_->after_step();
    return seconds;
  }

  void validate() const {
    const ModelInput input =
        model_input(full_batch(micro_batch_, job_.options.seq_len),
                    precision_of(job_.options.precision).activations, Device::kCPU);
    const Tensor hidden = forward(*job_.model, input.context);
    linear_cross_entropy(hidden, job_.model->head().value, input.targets, 1);
  }

  // A tensor at a time, as save_weights makes them.
  void save() const {
    if (!job_.full()) return;
    job_.model->visit_parameters([&](const std::string&, Parameter& parameter) {
      cast(parameter.value, job_.weights.dtype, MemoryKind::kWorkspace);
    });
  }

 private:
  Job& job_;
  Counting& dry_;
  std::unique_ptr<Communicator> group_;
  Optimizer optimizer_;
  std::unique_ptr<Strategy> strategy_;
  std::optional<InBackward> in_backward_;
  int64_t sequences_, micro_batch_;
};

}  // namespace

Plan dry_run(const TrainOptions& options, Ranks ranks, Rates rates) {
  Plan plan{.program = resident_anonymous_bytes(), .sharers = ranks.local};
  Counting dry(rates);
  {
    Job job;
    open_job(job, options, Device::kCPU);
    DryStep step(job, dry, ranks);
    plan.micro_batch = step.micro_batch();
    plan.sequences = step.sequences();
    plan.seq_len = job.options.seq_len;
    plan.parameters = job.all;
    plan.trained = job.trained;
    plan.family = job.model->family();
    if (options.steps != 1) step.run();  // what is made once is there in the next
    plan.step_seconds = step.run();
    if (!options.val.empty() || options.val_split > 0) step.validate();
    step.save();
    plan.mapped = dry.memory().now(MemoryKind::kMapped);
    if (const auto& stream = job.model->stream) {
      plan.streamed = stream->bytes();
      plan.mapped += 2 * stream->largest_block() - plan.streamed;
    }
  }
  if (ranks.all > 1) plan.program += kMessages;
  const MemoryAccount& memory = dry.memory();
  for (int kind = 0; kind < kMemoryKinds; ++kind)
    plan.parts[static_cast<size_t>(kind)] = memory.at_peak(static_cast<MemoryKind>(kind));
  plan.allocated = memory.peak();
  plan.resident = dry.touched() + memory.now(MemoryKind::kWorkspace);  // scratch stays
  return plan;
}

namespace {

Rates rates_of(DType dtype) {
  using Clock = std::chrono::steady_clock;
  const auto quickest = [](const auto& run) {
    double least = 1e9;
    for (int i = 0; i < 3; ++i) {
      const Clock::time_point begin = Clock::now();
      run();
      least = std::min(least, std::chrono::duration<double>(Clock::now() - begin).count());
    }
    return least;
  };
  constexpr int64_t kRows = 512, kSide = 1024, kCount = int64_t{1} << 22;
  const auto filled = [](const Shape& shape, DType type) {
    const Tensor tensor = Tensor::empty(shape, type, MemoryKind::kWorkspace);
    kernels(Device::kCPU)
        .fill({.y = tensor.raw(), .count = shape.numel(), .value = 1, .dtype = type});
    return tensor;
  };
  const Tensor x = filled({kRows, kSide}, dtype), w = filled({kSide, kSide}, dtype),
               y = filled({kRows, kSide}, dtype);
  const double product = quickest([&] {
    kernels(Device::kCPU)
        .matmul({.a = {.data = x.raw(), .stride = kSide, .dtype = dtype},
                 .b = {.data = w.raw(), .stride = kSide, .transposed = true, .dtype = dtype},
                 .c = y.raw(),
                 .c_stride = kSide,
                 .c_dtype = dtype,
                 .m = kRows,
                 .n = kSide,
                 .k = kSide,
                 .precision = dtype});
  });
  const Tensor a = filled({kCount}, DType::kF32), b = filled({kCount}, DType::kF32);
  const double move = quickest([&] {
    kernels(Device::kCPU).add({.a = a.raw(), .b = b.raw(), .y = a.raw(), .count = kCount});
  });
  return {2.0 * kRows * kSide * kSide / product, 3.0 * 4 * kCount / move};
}

}  // namespace

Rates measure_rates(const TrainOptions& options) {
  const DType dtype = precision_of(options.precision).activations;
  // On a thread whose scratch memory goes with it: what is measured here is not what the run takes.
  const Rates rates = std::async(std::launch::async, [dtype, threads = thread_count()] {
                        set_thread_count(threads);
                        return rates_of(dtype);
                      }).get();
  release_cached_memory();
  memory_process().reset_peaks();
  return rates;
}

}  // namespace tenon
