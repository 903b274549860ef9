// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>

#include "core/error.h"
#include "core/folders.h"
#include "models/dora.h"
#include "train/choices.h"
#include "train/evaluation.h"
#include "train/micro_batch.h"

namespace tenon {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

Packing packing_mode(const std::string& name) { return chosen(kPackings, "--packing", name); }

DType activation_dtype(const std::string& precision) { return precision_of(precision).activations; }

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
  length.micro_batch = micro_batch_of(options, train.options().seq_len, ranks);
  return length;
}

int64_t micro_batch_of(const TrainOptions& options, int64_t seq_len, int ranks) {
  if (options.micro_batch > 0) return options.micro_batch;
  // Enough rows to fill the matmul's tiles, few enough for 8 GB nodes.
  constexpr int64_t kTokens = 2048;
  const int64_t per_rank = (options.batch + ranks - 1) / ranks;
  return std::clamp<int64_t>(kTokens / seq_len, 1, per_rank);
}

std::string not_finite_text(double value) {
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

Trainer::Trainer(const Parts& parts)
    : p_(parts),
      dtype_(activation_dtype(parts.options.precision)),
      scaler_(dtype_, {.first = parts.options.loss_scale,
                       .grow_every = parts.options.loss_scale_growth,
                       .back_off = parts.options.loss_scale_backoff}),
      order_(parts.train.rows(), parts.options.batch, static_cast<uint64_t>(parts.options.seed),
             parts.options.shuffle == "on"),
      votes_(parts.group, parts.requested),
      slow_ranks_(parts.group.all_gather_text(parts.group.describe())) {
  const TrainOptions& o = p_.options;
  schedule_ = {.kind = chosen(kSchedules, "--schedule", o.schedule),
               .peak = o.lr.value(),
               .warmup = warmup_steps(o.warmup, p_.length.steps),
               .total = p_.length.steps};
  stands("none");
}

void Trainer::restore(const TrainerState& state) {
  state_ = state;
  saved_step_ = state.step;
  scaler_.restore(state.loss_scale, state.good_steps);
  stands(p_.options.resume == "auto" ? shown(checkpoint_of(state.step)) : shown(p_.options.resume));
}

RunOutcome Trainer::run() {
  RunOutcome outcome;
  const Clock::time_point begin = Clock::now();
  const double seconds_before = state_.seconds;
  update_norms(p_.model);  // a checkpoint may have been read since they were computed
  bool go_on = !out_of_patience();
  if (!go_on) outcome.end = RunEnd::kStoppedEarly;
  if (go_on && state_.validation_due) go_on = finish_step(Request::kNone, outcome.end);
  while (go_on && state_.step < p_.length.steps) {
    const Clock::time_point step_begin = Clock::now();
    const int64_t step = state_.step;
    const Step result = train_step(step);
    if (!result.whole) {
      save();
      outcome.end = RunEnd::kSignal;
      break;
    }
    check(step, result);
    if (p_.check_folder) write(p_.check_folder);
    state_.step = step + 1;
    for (const int64_t row : order_.rows_of_step(step)) state_.tokens += p_.train.length(row);
    if (step == 0) state_.first_loss = result.loss;
    state_.last_loss = result.loss;
    state_.grad_norm = result.norm;
    state_.step_seconds = seconds_since(step_begin);
    state_.seconds = seconds_before + seconds_since(begin);
    ++outcome.steps;
    go_on = finish_step(result.request, outcome.end);
  }
  p_.console.finish();
  set_last_words("");
  outcome.state = state_;
  outcome.seconds = seconds_since(begin);
  return outcome;
}

StepReport Trainer::report_of_step() {
  const int64_t step = state_.step - 1;
  StepReport report{
      .step = state_.step,
      .total = p_.length.steps,
      .epoch = static_cast<double>(state_.step) / static_cast<double>(p_.length.steps_per_epoch),
      .loss = state_.last_loss,
      .lr = schedule_.rate(step),
      .grad_norm = state_.grad_norm,
      .seconds = state_.step_seconds,
      .memory_bytes = memory_peak_};
  if (!std::isfinite(state_.grad_norm))
    report.note = fmt::format("overflow: skipped, loss scale now {}", state_.loss_scale);
  for (const int64_t row : order_.rows_of_step(step)) report.tokens += p_.train.length(row);
  return report;
}

bool Trainer::finish_step(Request request, RunEnd& end) {
  StepReport report = report_of_step();
  const bool last = state_.step == p_.length.steps;
  const auto validates = [&] {
    return state_.validation_due || last || state_.step % p_.length.eval_every == 0;
  };
  if (p_.length.eval_every > 0 && validates()) {
    if (!evaluate_now(report)) {
      report.note = save() ? "validation left, saved" : "validation left";
      p_.console.step(report);
      end = RunEnd::kSignal;
      return false;
    }
    request = std::max(request, votes_.last());
  }
  state_.validation_due = false;
  // Before the checkpoint: a run that is killed between the two goes on behind this row.
  if (p_.metrics != nullptr) {
    p_.metrics->write({.step = state_.step,
                       .epoch = report.epoch,
                       .tokens = state_.tokens,
                       .loss = report.loss,
                       .val_loss = report.val_loss,
                       .lr = report.lr,
                       .grad_norm = report.grad_norm,
                       .tokens_per_second = static_cast<double>(report.tokens) / report.seconds,
                       .step_seconds = report.seconds,
                       .memory_peak_bytes = report.memory_bytes,
                       .loss_scale = state_.loss_scale,
                       .skipped_steps = state_.step - state_.optimizer_steps});
  }
  const bool go_on = !out_of_patience();
  const bool due = p_.options.save_every > 0 && state_.step % p_.options.save_every == 0;
  if ((due || last || !go_on || request != Request::kNone) && save()) {
    report.note += report.note.empty() ? "saved" : ", saved";
  }
  if (request == Request::kSave) save_done();
  p_.console.step(report);
  if (!go_on) end = RunEnd::kStoppedEarly;
  if (go_on && !last && request == Request::kStop) end = RunEnd::kSignal;
  return go_on && !last && request != Request::kStop;
}

bool Trainer::must_stop(Request request) {
  if (request == Request::kSave) {
    if (save())
      p_.console.line(
          fmt::format("  saved    step {}, as the launcher may end the job", state_.step));
    save_done();
  }
  return request == Request::kStop;
}

Trainer::Step Trainer::train_step(int64_t step) {
  p_.group.note_phase(fmt::format("step {}", step + 1));
  const Clock::time_point begin = Clock::now();
  const double waited = p_.group.traffic().seconds_waiting;
  const std::span<const int64_t> rows = order_.rows_of_step(step);
  const auto scored = static_cast<double>(std::max<int64_t>(1, p_.train.scored(rows)));
  p_.optimizer.zero_gradients();
  const InBackward::Step update{schedule_.rate(step), 1 / scaler_.scale(), p_.options.clip};
  if (p_.in_backward != nullptr) p_.in_backward->begin_step(update);
  const std::optional<std::vector<LossSum>> losses = micro_batches(step, scaler_.scale() / scored);
  if (!losses) return {.whole = false};
  p_.strategy.before_step();
  const double norm = p_.in_backward != nullptr
                          ? p_.in_backward->finish_step()
                          : p_.optimizer.step(update.lr, update.unscale, update.max_norm);
  update_norms(p_.model);

  // Only now does the host read what the device has computed.
  double loss = 0;
  for (const LossSum& each : *losses) loss += each.sum();
  const double own_seconds = seconds_since(begin) - (p_.group.traffic().seconds_waiting - waited);
  const std::span<const int64_t> mine = rows_of_rank(rows, p_.group.rank(), p_.group.size());
  Step result = share(loss, {.seconds = own_seconds, .rows = static_cast<int64_t>(mine.size())});
  result.loss /= scored;
  result.norm = norm;
  return result;
}

// The rank's part of a step's losses and gradients; nothing when a request to stop came in between.
std::optional<std::vector<LossSum>> Trainer::micro_batches(int64_t step, double scale) {
  const std::span<const int64_t> rows = order_.rows_of_step(step);
  const int64_t tokens = p_.train.longest(rows), size = p_.length.micro_batch;
  const std::span<const int64_t> mine = rows_of_rank(rows, p_.group.rank(), p_.group.size());
  const int64_t first = mine.data() - rows.data(), count = static_cast<int64_t>(mine.size());
  // A rank with fewer micro-batches than others begins a round later: votes then stand before the
  // sums of gradients, which the last one sends, on every rank.
  const auto ranks = static_cast<size_t>(p_.group.size());
  const auto most = static_cast<int64_t>((rows.size() + ranks - 1) / ranks);
  const int64_t rounds = (most + size - 1) / size, own = (count + size - 1) / size;
  std::vector<LossSum> losses;
  for (int64_t round = 0; round < rounds; ++round) {
    if (must_stop(round + 1 < rounds ? votes_.next() : votes_.last())) return std::nullopt;
    const int64_t at = (round - (rounds - own)) * size;
    if (at < 0) continue;
    const int64_t these = std::min(size, count - at);
    losses.push_back(micro_batch(mine.subspan(static_cast<size_t>(at), static_cast<size_t>(these)),
                                 first + at, tokens, scale, at + these == count));
  }
  return losses;
}

// What ranks tell each other after a step. The sum is taken in the order of ranks.
Trainer::Step Trainer::share(double loss, RankStep own) {
  struct Told {
    double loss, seconds;
    int64_t rows, request, memory;
  };
  constexpr int64_t kWords = sizeof(Told) / sizeof(int64_t);
  const auto ranks = static_cast<size_t>(p_.group.size());
  Told mine{loss, own.seconds, own.rows, static_cast<int64_t>(p_.requested()),
            peak_bytes(device_of(p_.model))};
  std::vector<Told> all(ranks);
  p_.group
      .all_gather({&mine, kWords, DType::kI64}, {all.data(), kWords * p_.group.size(), DType::kI64})
      .wait();
  Step step;
  std::vector<RankStep> steps;
  int64_t request = 0;
  memory_peak_ = 0;
  for (const Told& told : all) {
    step.loss += told.loss;
    request = std::max(request, told.request);
    memory_peak_ = std::max(memory_peak_, told.memory);
    steps.push_back({told.seconds, told.rows});
  }
  step.request = static_cast<Request>(request);
  for (const std::string& line : slow_ranks_.step(steps)) p_.console.warning(line);
  return step;
}

LossSum Trainer::micro_batch(std::span<const int64_t> rows, int64_t first_in_step, int64_t tokens,
                             double scale, bool last) {
  return run_micro_batch({p_.options, p_.model, p_.strategy, p_.in_backward},
                         {.batch = p_.train.batch(rows, tokens),
                          .step = static_cast<uint32_t>(state_.step),
                          .sequence0 = static_cast<uint64_t>(first_in_step),
                          .scale = scale,
                          .last = last});
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

bool Trainer::evaluate_now(StepReport& report) {
  const int64_t step = state_.step;
  p_.group.note_phase(fmt::format("the validation of step {}", step));
  state_.validation_due = true;
  const Evaluation evaluation =
      evaluate(p_.model, source_of(*p_.val), p_.group, p_.length.micro_batch, dtype_, {},
               [&] { return must_stop(votes_.next()); });
  if (!evaluation.whole) return false;
  if (!std::isfinite(evaluation.loss))
    numeric_failure(step - 1, "the validation loss is " + not_finite_text(evaluation.loss));
  if (saved_step_ == step) saved_step_ = -1;  // that was without what is known now
  report.val_loss = evaluation.loss;
  const bool better = state_.best_step < 0 || evaluation.loss < state_.best_val;
  if (better) {
    state_.best_val = evaluation.loss;
    state_.best_step = step;
    state_.evals_without_gain = 0;
    report.note += report.note.empty() ? "best" : ", best";
    if (is_rank0()) {
      write([&] {
        warn_of_leftover(replace_folder(
            folder() / (p_.result_name + "-best"),
            [this](const std::filesystem::path& target) { p_.write_result(target, state_); }));
      });
    }
  } else {
    ++state_.evals_without_gain;
  }
  if (out_of_patience()) {
    report.note += report.note.empty() ? "" : ", ";
    report.note += fmt::format("stops early: no gain since step {}", state_.best_step);
  }
  return true;
}

bool Trainer::out_of_patience() const {
  return p_.options.early_stop > 0 && state_.evals_without_gain >= p_.options.early_stop;
}

}  // namespace tenon
