// SPDX-License-Identifier: Apache-2.0
// Training steps on random tokens, made of the parts that `tenon finetune` makes them of: the model,
// the tape, the optimizer. Nothing is written.
#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "bench/groups.h"
#include "bench/values.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/profile.h"
#include "models/adapter.h"
#include "models/open.h"
#include "train/optimizer.h"

namespace tenon::bench {
namespace {

// From a Hugging Face folder, or with random weights from a config.json alone.
std::unique_ptr<Model> model_of(const Options& o, DType dtype) {
  Opening opening{.model = o.model, .device = o.device, .activations = dtype, .train_base = o.full};
  if (std::filesystem::is_regular_file(o.model)) opening.drawn = DType::kF32;
  opening.check = [&](const Model& model) {
    if (o.seq_len <= model.max_positions()) return;
    fail_input("--seq-len: {} tokens, but the model has {} positions", o.seq_len,
               model.max_positions());
  };
  if (!o.full) {
    opening.adapt = [&](Model& model) {
      attach_lora(model,
                  {.rank = o.rank,
                   .alpha = 16,
                   .targets = o.targets.empty() ? model.default_targets() : o.targets},
                  1);
    };
  }
  return open_model(opening).model;
}

// The pieces of a step, and what the last one gave.
class Stepper {
 public:
  Stepper(const Options& o, DType dtype)
      : device_(o.device), model_(model_of(o, dtype)), optimizer_(*model_, {}) {
    const int64_t tokens = o.batch * o.seq_len;
    context_.ids =
        drawn_ids(tokens, model_->vocabulary(), 1).view({o.batch, o.seq_len}).to(device_);
    Tensor positions = Tensor::empty({o.batch, o.seq_len}, DType::kI32);
    targets_ = drawn_ids(tokens, model_->vocabulary(), 2).view({o.batch, o.seq_len});
    // What is scored lies at the end of each sequence, as a completion does.
    const int64_t prompt = o.seq_len - std::llround(o.scored * static_cast<double>(o.seq_len));
    for (int64_t i = 0; i < tokens; ++i) {
      positions.data<int32_t>()[i] = static_cast<int32_t>(i % o.seq_len);
      if (i % o.seq_len < prompt) targets_.data<int32_t>()[i] = -100;
    }
    scored_ = o.batch * (o.seq_len - prompt);
    if (scored_ == 0) fail_input("--scored: {} of {} tokens is none", o.scored, o.seq_len);
    context_.positions = positions.to(device_);
    context_.dtype = dtype;
    context_.training = true;
  }

  Model& model() const { return *model_; }
  int64_t scored() const { return scored_; }

  // One optimizer step; returns its loss. The phases are `profile`'s where it is given.
  double step(Profile* profile) {
    const auto enter = [&](const char* phase) {
      if (profile != nullptr) profile->enter(phase);
    };
    optimizer_.zero_gradients();
    Tape tape;
    LossSum loss;
    enter("forward");
    {
      const Recording scope(tape);
      loss = linear_cross_entropy(forward(*model_, context_), model_->head().value, targets_,
                                  1 / static_cast<float>(scored_));
    }
    enter("backward");
    tape.backward(loss.losses);
    enter("optimizer");
    optimizer_.step(1e-5, 1, 1.0);
    return loss.sum() / static_cast<double>(scored_);
  }

 private:
  Device device_;
  std::unique_ptr<Model> model_;
  Optimizer optimizer_;
  Context context_;
  Tensor targets_;  // (B, T), on the host
  int64_t scored_ = 0;
};

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Makes the peak of resident memory begin anew, where the system lets a process do so.
void forget_peak() { std::ofstream("/proc/self/clear_refs") << 5; }

int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt + usage.ru_majflt;
}

void print_row(Report& report, const Profile::Row& row, double step) {
  const double rate = row.seconds > 0 ? 1e-9 / row.seconds : 0;
  const std::string speed =
      row.work.operations > 0 ? fmt::format("{:8.1f} GFLOP/s", row.work.operations * rate)
      : row.work.bytes > 0    ? fmt::format("{:8.1f} GB/s", row.work.bytes * rate)
                              : "";
  report.say(fmt::format("{:10} {:22} {:16} {:64} {:4} {:9.3f} ms {:5.1f} % {}", row.phase, row.op,
                         row.kernel, row.shape, row.calls, row.seconds * 1e3,
                         100 * row.seconds / step, speed));
}

// The profile of one step of `step` seconds. Its rows add up to the step.
void report_profile(Report& report, Profile& profile, double step) {
  std::vector<Profile::Row> rows = profile.rows();
  rows.push_back({"", "", "between kernels", "", 1, step - profile.seconds(), {}});
  OrderedJson json = OrderedJson::array();
  report.say(fmt::format("\nwhere a step of {:.1f} ms goes:", step * 1e3));
  for (const Profile::Row& row : rows) {
    print_row(report, row, step);
    json.push_back({{"phase", row.phase},
                    {"op", row.op},
                    {"kernel", row.kernel},
                    {"shape", row.shape},
                    {"calls", row.calls},
                    {"ms", row.seconds * 1e3},
                    {"share", row.seconds / step},
                    {"operations", row.work.operations},
                    {"bytes", row.work.bytes}});
  }
  report.attach("profile", {{"step_ms", step * 1e3}, {"rows", json}});
}

// Seconds of a step whose launches `profile` notes.
double profiled_step(Stepper& stepper, Profile& profile, Device device) {
  const Profiling scope(profile, device);
  const double begin = seconds_now();
  stepper.step(&profile);
  memory_of(device).synchronize();
  return seconds_now() - begin;
}

void run_step(const Options& o, DType dtype, Report& report) {
  const std::string method = o.full ? "full" : fmt::format("lora.r{}", o.rank);
  const std::string size = fmt::format("{}x{} scored {:.0f} %", o.batch, o.seq_len, 100 * o.scored);
  if (!o.wants(fmt::format("step {} {} {}", method, size, name_of(dtype)))) return;
  release_cached_memory();
  forget_peak();
  Stepper stepper(o, dtype);
  const double first = stepper.step(nullptr);
  if (!std::isfinite(first)) fail(Exit::kNumeric, "step bench: the first loss is not finite");

  // The first step asked for memory; one more is profiled.
  Profile profile;
  const double profiled = profiled_step(stepper, profile, o.device);
  LaunchWork work;
  for (const Profile::Row& row : profile.rows()) work += row.work;

  const int64_t blocks = blocks_asked_for(o.device), faults = page_faults();
  std::vector<double> seconds;
  double last = first;
  for (int64_t i = 0; i < o.steps; ++i) {
    const double begin = seconds_now();
    last = stepper.step(nullptr);
    seconds.push_back(seconds_now() - begin);
  }
  if (!std::isfinite(last)) fail(Exit::kNumeric, "step bench: the loss became {}", last);
  const int64_t new_blocks = blocks_asked_for(o.device) - blocks,
                new_faults = page_faults() - faults;

  Line line{.group = "step",
            .name = method,
            .size = size,
            .dtype = dtype,
            .time = spread_of(seconds),
            .error = -1};
  line.work.operations = work.operations;  // of products; bytes of all kernels say nothing
  const double tokens = static_cast<double>(o.batch * o.seq_len) / line.time.median;
  const int64_t peak = peak_bytes(o.device);
  line.note = fmt::format(
      "{:.1f} tokens/s, loss {:.4f} -> {:.4f}, peak memory {:.0f} MiB, after the first step {} "
      "blocks and {} pages from the system",
      tokens, first, last, static_cast<double>(peak) / (1 << 20), new_blocks, new_faults);
  line.more = {{"model", o.model},
               {"family", stepper.model().family()},
               {"batch", o.batch},
               {"seq_len", o.seq_len},
               {"rank", o.full ? 0 : o.rank},
               {"scored_tokens", stepper.scored()},
               {"tokens_per_second", tokens},
               {"operations", work.operations},
               {"first_loss", first},
               {"last_loss", last},
               {"peak_bytes", peak},
               {"blocks_after_first_step", new_blocks},
               {"page_faults_after_first_step", new_faults}};
  report.add(line);
  if (o.profile) report_profile(report, profile, profiled);
}

}  // namespace

void bench_step(const Options& options, Report& report) {
  for (const DType dtype : options.dtypes) run_step(options, dtype, report);
}

}  // namespace tenon::bench
