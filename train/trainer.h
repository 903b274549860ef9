// SPDX-License-Identifier: Apache-2.0
// The training loop: for each step the rank's micro-batches, the strategy's reduction, clipping,
// the optimizer, the log. It knows no strategy. The loss and gradient of a step are means over all
// its scored tokens, whatever the micro-batches and ranks.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "parallel/strategy.h"
#include "text/data/packing.h"
#include "text/data/row_order.h"
#include "train/checkpoint.h"
#include "train/console.h"
#include "train/in_backward.h"
#include "train/loss_scaler.h"
#include "train/metrics.h"
#include "train/optimizer.h"
#include "train/options.h"
#include "train/schedule.h"
#include "train/signals.h"
#include "train/slow_ranks.h"

namespace tenon {

// How long a run is, from the options and the data.
struct RunLength {
  int64_t steps_per_epoch = 1, steps = 1, eval_every = 0, micro_batch = 1;
};
RunLength run_length(const TrainOptions& options, const PackedRows& train, bool validates,
                     int ranks);

// --micro-batch of a rank; where that is 0 as many sequences of so many tokens as make about 2048.
int64_t micro_batch_of(const TrainOptions& options, int64_t seq_len, int ranks);

// "document", "concat" or "none".
Packing packing_mode(const std::string& name);

DType activation_dtype(const std::string& precision);

// A loss that is not finite, as a message has it: "nan", "inf" (a NaN has no sign to people).
std::string not_finite_text(double value);

enum class RunEnd : uint8_t { kFinished, kStoppedEarly, kSignal };

struct RunOutcome {
  RunEnd end = RunEnd::kFinished;
  TrainerState state;
  int64_t steps = 0;   // of this process's part of the run
  double seconds = 0;  // likewise
};

class Trainer {
 public:
  struct Parts {
    const TrainOptions& options;
    Model& model;
    Optimizer& optimizer;
    Strategy& strategy;
    Communicator& group;  // data-parallel ranks
    const PackedRows& train;
    const PackedRows* val = nullptr;
    Console& console;
    Metrics* metrics = nullptr;         // on rank 0
    InBackward* in_backward = nullptr;  // where weights are updated in the backward pass
    RunLength length;
    std::string identity;
    // Write the adapter or model into a folder that is being made: alone, for a checkpoint, and with
    // all that inference needs beside it.
    std::function<void(const std::filesystem::path&)> write_weights;
    std::function<void(const std::filesystem::path&, const TrainerState&)> write_result;
    std::string result_name;  // "adapter" or "model"
    // Throws where the run folder is no longer the one that was opened; on rank 0, or empty.
    std::function<void()> check_folder = {};
    // What this rank was asked for.
    std::function<Request()> requested = tenon::requested;
  };
  // A collective call.
  explicit Trainer(const Parts& parts);

  // Goes on from a checkpoint's state (weights and optimizer already restored).
  void restore(const TrainerState& state);

  // Runs to the end, or until some rank is asked to stop: then the last step that was completed is
  // saved, and a step or validation under way is left, to be done again by the run that goes on from
  // there. Throws Error(kNumeric) for a loss or gradient that is not finite, naming step and last
  // good checkpoint.
  RunOutcome run();

 private:
  struct Step {
    double loss = 0;                   // mean over the step's scored tokens
    double norm = 0;                   // of the gradient, before clipping
    Request request = Request::kNone;  // the most that a rank was asked for
    bool whole = true;                 // false: a request to stop came, and the rest says nothing
  };
  Step train_step(int64_t step);
  std::optional<std::vector<LossSum>> micro_batches(int64_t step, double scale);
  LossSum micro_batch(std::span<const int64_t> rows, int64_t first_in_step, int64_t tokens,
                      double scale, bool last);
  Step share(double loss, RankStep own);
  bool must_stop(Request request);               // meets a request to save
  void check(int64_t step, const Step& result);  // loss and gradient are finite
  // What follows a step: validation, metrics, checkpoint, a line. False: the run ends, and how.
  bool finish_step(Request request, RunEnd& end);
  StepReport report_of_step();
  bool evaluate_now(StepReport& report);  // false: left
  bool save();                            // false: there is nothing to save, or no time
  void write_checkpoint();
  // Writes to the run folder; an error names the last good checkpoint.
  void write(const std::function<void()>& action) const;
  void warn_of_leftover(const std::string& what);  // once
  std::filesystem::path checkpoint_of(int64_t step) const;
  void stands(const std::string& checkpoint);  // the one that is good whatever happens now
  [[noreturn]] void numeric_failure(int64_t step, const std::string& what);
  bool out_of_patience() const;
  bool is_rank0() const { return p_.group.rank() == 0; }
  std::filesystem::path folder() const { return p_.options.out; }

  Parts p_;
  DType dtype_;
  Schedule schedule_;
  LossScaler scaler_;
  RowOrder order_;
  Votes votes_;
  SlowRanks slow_ranks_;
  TrainerState state_;
  int64_t memory_peak_ = 0;  // highest of the ranks
  int64_t saved_step_ = -1;
  bool warned_of_leftover_ = false;
  double save_seconds_ = 0;  // what the last checkpoint took
};

}  // namespace tenon
