// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <span>

#include "core/error.h"
#include "core/folders.h"
#include "models/dora.h"
#include "train/choices.h"
#include "train/evaluation.h"
#include "train/signals.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Packing packing_mode(const std::string& name) { return chosen(kPackings, "--packing", name); }

DType activation_dtype(const std::string& precision) {
  return chosen(kPrecisions, "--precision", precision);
}

RunLength run_length(const TrainOptions& options, const PackedRows& train, bool validates,
                     int ranks) {
  RunLength length;
  length.steps_per_epoch = (train.rows() + options.batch - 1) / options.batch;
  const double by_epochs = std::ceil(options.epochs * static_cast<double>(length.steps_per_epoch));
  length.steps =
      options.steps > 0 ? options.steps : std::max<int64_t>(1, static_cast<int64_t>(by_epochs));
  if (validates)
    length.eval_every =
        options.eval_every > 0 ? options.eval_every : std::max<int64_t>(1, length.steps / 10);
  constexpr int64_t kTokens =
      2048;  // enough rows to fill the matmul's tiles, few enough for 8 GB nodes
  const int64_t per_rank = (options.batch + ranks - 1) / ranks;
  const int64_t fitting = std::clamp<int64_t>(kTokens / train.options().seq_len, 1, per_rank);
  length.micro_batch = options.micro_batch > 0 ? options.micro_batch : fitting;
  return length;
}

std::string not_finite_text(double value) {
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

Trainer::Trainer(const Parts& parts)
    : p_(parts),
      dtype_(activation_dtype(parts.options.precision)),
      scaler_(dtype_),
      order_(parts.train.rows(), parts.options.batch, static_cast<uint64_t>(parts.options.seed),
             parts.options.shuffle == "on") {
  const TrainOptions& o = p_.options;
  schedule_ = {.kind = chosen(kSchedules, "--schedule", o.schedule),
               .peak = o.lr.value(),
               .warmup = warmup_steps(o.warmup, p_.length.steps),
               .total = p_.length.steps};
}

void Trainer::restore(const TrainerState& state) {
  state_ = state;
  saved_step_ = state.step;
  scaler_.restore(state.loss_scale, state.good_steps);
}

RunOutcome Trainer::run() {
  RunOutcome outcome;
  const Clock::time_point begin = Clock::now();
  const double seconds_before = state_.seconds;
  update_norms(p_.model);  // a checkpoint may have been read since they were computed
  bool go_on = !out_of_patience();
  if (!go_on) outcome.end = RunEnd::kStoppedEarly;
  while (go_on && state_.step < p_.length.steps) {
    const Clock::time_point step_begin = Clock::now();
    const int64_t step = state_.step;
    const Step result = train_step(step);
    check(step, result);
    if (p_.check_folder) write(p_.check_folder);
    state_.step = step + 1;
    state_.tokens += result.tokens;

    StepReport report{.step = state_.step,
                      .total = p_.length.steps,
                      .loss = result.loss,
                      .lr = schedule_.rate(step),
                      .grad_norm = result.norm,
                      .tokens = result.tokens};
    report.epoch =
        static_cast<double>(state_.step) / static_cast<double>(p_.length.steps_per_epoch);
    report.seconds = seconds_since(step_begin);
    report.memory_bytes = static_cast<int64_t>(result.memory_peak);
    if (step == 0) state_.first_loss = result.loss;
    state_.last_loss = result.loss;
    state_.seconds = seconds_before + seconds_since(begin);
    ++outcome.steps;

    const bool last = state_.step == p_.length.steps;
    if (p_.length.eval_every > 0 && (state_.step % p_.length.eval_every == 0 || last)) {
      go_on = evaluate_now(state_.step, report);
    }
    // Before the checkpoint: a run that is killed between the two goes on behind this row.
    if (p_.metrics != nullptr) {
      p_.metrics->write({.step = state_.step,
                         .epoch = report.epoch,
                         .tokens = state_.tokens,
                         .loss = result.loss,
                         .val_loss = report.val_loss,
                         .lr = report.lr,
                         .grad_norm = result.norm,
                         .tokens_per_second = static_cast<double>(result.tokens) / report.seconds,
                         .step_seconds = report.seconds,
                         .memory_peak_bytes = report.memory_bytes});
    }
    const bool due = p_.options.save_every > 0 && state_.step % p_.options.save_every == 0;
    if (due || last || !go_on || result.stop) save(report);
    p_.console.step(report);
    if (!go_on) outcome.end = RunEnd::kStoppedEarly;
    if (result.stop && !last && go_on) {
      outcome.end = RunEnd::kSignal;
      break;
    }
  }
  p_.console.finish();
  outcome.state = state_;
  outcome.seconds = seconds_since(begin);
  return outcome;
}

Trainer::Step Trainer::train_step(int64_t step) {
  const std::span<const int64_t> rows = order_.rows_of_step(step);
  const int64_t tokens = p_.train.longest(rows), scored = p_.train.scored(rows);
  int64_t seen = 0;
  for (const int64_t row : rows) seen += p_.train.length(row);
  const double scale = scaler_.scale() / static_cast<double>(std::max<int64_t>(1, scored));

  p_.optimizer.zero_gradients();
  const std::span<const int64_t> mine = rows_of_rank(rows, p_.group.rank(), p_.group.size());
  const int64_t first = mine.data() - rows.data(), count = static_cast<int64_t>(mine.size());
  std::vector<LossSum> losses;
  for (int64_t at = 0; at < count; at += p_.length.micro_batch) {
    const int64_t size = std::min(p_.length.micro_batch, count - at);
    losses.push_back(micro_batch(mine.subspan(static_cast<size_t>(at), static_cast<size_t>(size)),
                                 first + at, tokens, scale, at + size == count));
  }
  p_.strategy.before_step();
  const double norm = p_.optimizer.step(schedule_.rate(step), 1 / scaler_.scale(), p_.options.clip);
  update_norms(p_.model);

  // Only now does the host read what the device has computed.
  double sums[2] = {0, stop_signal() != 0 ? 1.0 : 0.0};  // loss, ranks asked to stop
  for (const LossSum& loss : losses) sums[0] += loss.sum();
  p_.group.all_reduce(std::span<double>(sums), Reduce::kSum);
  double memory[1] = {static_cast<double>(peak_bytes(device_of(p_.model)))};
  p_.group.all_reduce(std::span<double>(memory), Reduce::kMax);
  return {.loss = sums[0] / static_cast<double>(std::max<int64_t>(1, scored)),
          .norm = norm,
          .tokens = seen,
          .stop = sums[1] > 0,
          .memory_peak = memory[0]};
}

LossSum Trainer::micro_batch(std::span<const int64_t> rows, int64_t first_in_step, int64_t tokens,
                             double scale, bool last) {
  ModelInput input = model_input(p_.train.batch(rows, tokens), dtype_, device_of(p_.model));
  Context& context = input.context;
  context.training = true;
  context.model_dropout = p_.options.model_dropout == "config";
  context.seed = static_cast<uint64_t>(p_.options.seed);
  context.step = static_cast<uint32_t>(state_.step);
  context.sequence0 = static_cast<uint64_t>(first_in_step);
  const BlockHooks hooks{[this](int64_t i) { p_.strategy.before_block(i); },
                         [this](int64_t i) { p_.strategy.after_block(i); }};
  Tape tape;
  LossSum loss;
  {
    const Recording scope(tape);
    const Tensor hidden =
        forward(p_.model, context,
                {.checkpoint_activations = p_.options.checkpoint_activations, .hooks = &hooks});
    loss = linear_cross_entropy(hidden, p_.model.head().value, input.targets,
                                static_cast<float>(scale));
  }
  if (last) p_.strategy.before_last_backward();
  tape.backward(loss.losses);
  return loss;
}

void Trainer::check(int64_t step, const Step& result) {
  if (!std::isfinite(result.loss))
    numeric_failure(step, "the loss is " + not_finite_text(result.loss));
  if (!scaler_.update(std::isfinite(result.norm))) {
    numeric_failure(step,
                    fmt::format("the gradient of {} is not finite", p_.optimizer.bad_gradient()));
  }
  p_.strategy.after_step();
  state_.optimizer_steps = p_.optimizer.steps();
  state_.loss_scale = scaler_.scale();
  state_.good_steps = scaler_.good_steps();
}

bool Trainer::evaluate_now(int64_t step, StepReport& report) {
  const Evaluation evaluation =
      evaluate(p_.model, source_of(*p_.val), p_.group, p_.length.micro_batch, dtype_);
  if (!std::isfinite(evaluation.loss))
    numeric_failure(step - 1, "the validation loss is " + not_finite_text(evaluation.loss));
  report.val_loss = evaluation.loss;
  const bool better = state_.best_step < 0 || evaluation.loss < state_.best_val;
  if (better) {
    state_.best_val = evaluation.loss;
    state_.best_step = step;
    state_.evals_without_gain = 0;
    report.note += "best";
    if (is_rank0()) {
      write([&] {
        warn_of_leftover(
            replace_folder(folder() / (p_.result_name + "-best"),
                           [this](const fs::path& target) { p_.write_result(target, state_); }));
      });
    }
  } else {
    ++state_.evals_without_gain;
  }
  if (out_of_patience())
    report.note += fmt::format("stops early: no gain since step {}", state_.best_step);
  return !out_of_patience();
}

bool Trainer::out_of_patience() const {
  return p_.options.early_stop > 0 && state_.evals_without_gain >= p_.options.early_stop;
}

void Trainer::save(StepReport& report) {
  if (saved_step_ == state_.step) return;
  if (const std::string name = p_.optimizer.bad_weight(); !name.empty()) {
    numeric_failure(state_.step - 1, fmt::format("the weights of {} are not finite", name));
  }
  state_.identity = p_.identity;
  if (is_rank0()) write_checkpoint();
  p_.group.barrier();
  saved_step_ = state_.step;
  report.note += report.note.empty() ? "saved" : ", saved";
}

void Trainer::write_checkpoint() {
  // A full model's weights are in the state already; an adapter is small and of use at once.
  const auto write_result = [&](const fs::path& target) {
    if (p_.result_name == "adapter") p_.write_weights(target / p_.result_name);
  };
  if (p_.metrics != nullptr) p_.metrics->sync();
  write([&] {
    save_checkpoint(folder() / "checkpoints", state_, p_.optimizer, write_result, p_.options.keep,
                    [this](const std::string& what) { warn_of_leftover(what); });
  });
}

void Trainer::write(const std::function<void()>& action) const {
  const auto fails = [](const std::function<void()>& act) -> std::optional<Error> {
    try {
      act();
    } catch (const Error& e) {
      return e;
    }
    return std::nullopt;
  };
  std::optional<Error> error = fails(action);
  if (!error) return;
  // A folder that is gone is the reason of whatever else fails.
  if (p_.check_folder) error = fails(p_.check_folder).value_or(*error);
  fail(error->code(), "{}; {}", error->what(), last_good_text(folder()));
}

void Trainer::warn_of_leftover(const std::string& what) {
  if (!what.empty() && !warned_of_leftover_) p_.console.warning(what);
  warned_of_leftover_ |= !what.empty();
}

void Trainer::numeric_failure(int64_t step, const std::string& what) {
  fail(Exit::kNumeric, "step {}: {}; {}", step + 1, what, last_good_text(folder()));
}

}  // namespace tenon
