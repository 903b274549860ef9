// SPDX-License-Identifier: Apache-2.0
#include "train/finetune.h"

#include <ctime>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "comm/mesh.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel_for.h"
#include "text/data/sources.h"
#include "train/data.h"
#include "train/identity.h"
#include "train/job.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// Runs `work`, in which no rank talks to another, on every rank. Where it fails on any of them, all
// ranks fail: rank 0 leaves no run folder behind, and the first rank that failed reports its error.
void all_or_none(Communicator& world, std::optional<RunFolder>& folder,
                 const std::function<void()>& work) {
  std::optional<Error> error;
  try {
    work();
  } catch (const Error& e) {
    error = e;
  }
  constexpr int64_t kCodes = 256, kNone = int64_t{1} << 40;
  int64_t first[1] = {error ? world.rank() * kCodes + static_cast<int64_t>(error->code()) : kNone};
  world.all_reduce(std::span<int64_t>(first), Reduce::kMin);
  if (first[0] == kNone) return;
  if (folder) folder->discard();
  world.barrier();  // an error ends the job: the folder must be gone before
  if (first[0] / kCodes == world.rank()) throw *error;
  throw Error(static_cast<Exit>(first[0] % kCodes), "");
}

OptimizerOptions optimizer_options(const TrainOptions& o) {
  return {.kind = o.optimizer == "sgd" ? OptimizerKind::kSgd : OptimizerKind::kAdamW,
          .beta1 = o.beta1,
          .beta2 = o.beta2,
          .eps = o.eps,
          .momentum = o.momentum,
          .weight_decay = o.weight_decay};
}

void check_rows(const Job& job, int ranks) {
  const int64_t rows = job.train->rows(), batch = job.options.batch;
  if (rows >= ranks && batch >= ranks) return;
  fail_input("more ranks ({}) than sequences: {} of data, a --batch of {}", ranks, rows, batch);
}

// Model and data on every rank; rank 0 tokenizes, and ranks that do not see its files do so again.
// Returns what was read.
Facts read_all(const TrainOptions& options, Communicator& world, std::optional<RunFolder>& folder,
               Device device, Job& job) {
  const bool rank0 = world.rank() == 0;
  Facts contents;
  all_or_none(world, folder, [&] { job = read_model(options, device); });
  all_or_none(world, folder, [&] {
    folder.emplace(job.options, rank0);
    if (rank0) read_data(*folder, job);
  });
  all_or_none(world, folder, [&] {
    if (!rank0) read_data(*folder, job);
    check_rows(job, world.size());
    contents = contents_of(job.options, job.tokenizer->fingerprint());
  });
  check_agreement(world, contents);
  return contents;
}

// The checkpoint to go on from: its state, and what to say about it.
struct Resumed {
  std::optional<TrainerState> state;
  std::vector<std::string> warnings;
  std::string line;
};

Resumed read_checkpoint(const TrainOptions& o, Optimizer& optimizer, const std::string& identity) {
  Found found;
  if (o.resume == "auto") {
    found = newest_checkpoint(fs::path(o.out) / "checkpoints");
  } else {
    found.folder = o.resume;
  }
  Resumed resumed;
  for (const std::string& why : found.rejected) {
    resumed.warnings.push_back("checkpoint passed over: " + why);
  }
  if (!found.folder) return resumed;
  resumed.state = load_checkpoint(*found.folder, optimizer, [&](const TrainerState& state) {
    check_identity(identity, state.identity, *found.folder);
  });
  resumed.line = fmt::format("  resume   {} (step {})", shown(*found.folder), resumed.state->step);
  return resumed;
}

// Rank 0 chooses the checkpoint and reads it; the others get its state over the wire, so they need
// not see the files.
Resumed resume(const TrainOptions& o, Optimizer& optimizer, const std::string& identity,
               Communicator& world, std::optional<RunFolder>& folder) {
  Resumed resumed;
  if (o.resume.empty()) return resumed;
  all_or_none(world, folder, [&] {
    if (world.rank() == 0) resumed = read_checkpoint(o, optimizer, identity);
  });
  const std::string text =
      world.all_gather_text(resumed.state ? state_text(*resumed.state) : "").front();
  if (text.empty()) return resumed;
  optimizer.visit_state([&](const std::string&, Tensor& tensor) {
    const Tensor host = tensor.to(Device::kCPU, MemoryKind::kWorkspace);
    world.broadcast({host.raw(), host.numel(), host.dtype()}, 0).wait();
    tensor.assign(host);
  });
  resumed.state = parse_state(text, "checkpoint");
  optimizer.set_steps(resumed.state->optimizer_steps);
  return resumed;
}

std::string notes_of(const PackingStatistics& s) {
  std::string notes;
  if (s.cut_documents > 0) notes += fmt::format("; {} longer than a row", s.cut_documents);
  if (s.cut_samples > 0) notes += fmt::format("; {} samples cut at --seq-len", s.cut_samples);
  if (s.long_samples > 0) notes += fmt::format("; {} too long and left out", s.long_samples);
  if (s.dropped_documents > 0)
    notes += fmt::format("; {} with nothing to predict left out", s.dropped_documents);
  if (s.lost_targets > 0) notes += fmt::format("; {} tokens did not fit", s.lost_targets);
  return notes;
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

void write_summary(const Job& job, const Machine& machine, const RunOutcome& outcome,
                   const RunLength& length, int ranks, const std::string& started) {
  const TrainerState& state = outcome.state;
  constexpr const char* kEnds[] = {"finished", "stopped early", "stopped by a signal"};
  nlohmann::ordered_json json = {{"tenon", machine.version},
                                 {"build", machine.build},
                                 {"device", device_text(device_of(*job.model))},
                                 {"host", machine.hostname},
                                 {"ranks", ranks},
                                 {"threads", machine.threads},
                                 {"started", started},
                                 {"ended", now_text()},
                                 {"end", kEnds[static_cast<int>(outcome.end)]},
                                 {"method", job.options.method},
                                 {"trained_parameters", job.trained},
                                 {"parameters", job.all},
                                 {"steps", state.step},
                                 {"steps_planned", length.steps},
                                 {"micro_batch", length.micro_batch},
                                 {"tokens", state.tokens},
                                 {"seconds", state.seconds},
                                 {"first_loss", state.first_loss},
                                 {"last_loss", state.last_loss},
                                 {"memory_peak_bytes", peak_bytes(device_of(*job.model))}};
  if (state.best_step >= 0) {
    json["best_val_loss"] = state.best_val;
    json["best_step"] = state.best_step;
  }
  write_text_atomic(fs::path(job.options.out) / "summary.json", json.dump(2) + "\n");
}

// The first sample, so that a person sees what is scored. Plain text is scored as a whole: nothing to
// see.
void print_sample(Console& console, const Job& job) {
  const bool wanted = console.terminal() && job.first_document.sample;
  if (!wanted && !job.options.show_sample) return;
  const bool colour = console.colour();
  console.line(fmt::format("  sample   the first one; what is scored is {}:",
                           colour ? "green" : "between [[ and ]]"));
  console.line(sample_text(*job.tokens, job.first_document, *job.tokenizer, colour));
}

// What the run is about to do. Nothing was said before: bad input is one line.
void print_plan(Console& console, const Job& job, const Machine& machine, const Resumed& resumed,
                const RunLength& length, int ranks) {
  const TrainOptions& o = job.options;
  const auto plural = [](int64_t count) { return count == 1 ? "" : "s"; };
  const auto count = [](int64_t number) { return count_text(static_cast<double>(number)); };
  const PackingStatistics& s = job.train->statistics();
  console.line(fmt::format("{}  finetune {}  {} rank{} x {} thread{}, {}", machine.version,
                           o.method, ranks, plural(ranks), machine.threads, plural(machine.threads),
                           device_text(device_of(*job.model))));
  console.line(fmt::format("  model    {}: {} parameters, {} blocks, {} in {}", job.model->family(),
                           count(job.all), job.model->blocks(), name_of(job.weights.dtype),
                           job.weights.file));
  console.line(fmt::format("  train    {} of them ({:.2f} %){}, activations {}", count(job.trained),
                           100.0 * static_cast<double>(job.trained) / static_cast<double>(job.all),
                           job.full() ? "" : fmt::format(", rank {}", o.rank), o.precision));
  if (!machine.warning.empty()) console.warning(machine.warning);
  console.line(fmt::format("  format   {}", job.data_kind));
  console.line(fmt::format(
      "  data     {} documents, {} tokens, {} scored; {} rows of up to {} tokens, {:.1f} % full{}",
      s.documents, count(s.tokens), count(s.scored), s.rows, o.seq_len, 100 * s.fill, notes_of(s)));
  const std::map<int32_t, int64_t> special = job.tokens->special_tokens();
  if (!special.empty()) {
    console.line(fmt::format("           special tokens in the text: {}",
                             special_tokens_text(*job.tokenizer, special)));
  }
  if (job.val) {
    console.line(fmt::format("  held out {} rows, {} scored tokens", job.val->rows(),
                             job.val->statistics().scored));
  }
  if (const int64_t skipped = job.tokens->skipped_records(); skipped > 0) {
    console.warning(fmt::format("{} record{} of the data could not be read and were passed over",
                                skipped, plural(skipped)));
  }
  print_sample(console, job);
  for (const std::string& warning : resumed.warnings) console.warning(warning);
  if (!resumed.line.empty()) console.line(resumed.line);
  console.line(fmt::format(
      "  batch    {} sequences over {} rank{}, micro-batches of {}; {} steps an epoch, {} in all",
      std::min<int64_t>(o.batch, job.train->rows()), ranks, plural(ranks), length.micro_batch,
      length.steps_per_epoch, length.steps));
  console.line(fmt::format("  output   {}", shown(o.out)));
}

int print_end(Console& console, const Job& job, const RunOutcome& outcome) {
  const TrainerState& state = outcome.state;
  if (outcome.end == RunEnd::kSignal) {
    const std::string who =
        stop_signal() != 0 ? fmt::format("signal {}", stop_signal()) : "a signal to another rank";
    console.line(
        fmt::format("stopped by {} after step {}: run again with --resume auto", who, state.step));
    return static_cast<int>(Exit::kStopped);
  }
  const std::string best =
      fmt::format(", best validation loss {:.4f} at step {}", state.best_val, state.best_step);
  console.line(fmt::format("done in {}: loss {:.4f} -> {:.4f}{}", duration_text(outcome.seconds),
                           state.first_loss, state.last_loss, state.best_step >= 0 ? best : ""));
  const std::string result = job.full() ? "model" : "adapter";
  console.line(fmt::format("  {:8} {}", result, shown(fs::path(job.options.out) / result)));
  return static_cast<int>(Exit::kDone);
}

// Collective. A run that had nothing left to do leaves the report of the one that did it.
void write_report(const Job& job, const Machine& machine, const RunOutcome& outcome,
                  const RunLength& length, Communicator& world, const std::string& started) {
  const fs::path folder = job.options.out;
  const bool there = fs::exists(folder / "summary.json") && fs::exists(folder / "ranks.csv");
  const bool keep =
      world.all_gather_text(there ? "there" : "").front() == "there" && outcome.steps == 0;
  if (!keep) {
    write_ranks(folder, world,
                {.rank = world.rank(),
                 .node = machine.hostname,
                 .threads = machine.threads,
                 .seconds = outcome.seconds,
                 .seconds_waiting = world.traffic().seconds_waiting});
    if (world.rank() == 0) write_summary(job, machine, outcome, length, world.size(), started);
  }
  if (world.rank() == 0) sync_directory(folder);
  world.barrier();
}

}  // namespace

int finetune(const TrainOptions& options, Communicator& world, const Machine& machine) {
  const std::string started = now_text();
  remember_early_requests();
  world.set_timeout(options.timeout);
  const bool rank0 = world.rank() == 0;
  check_options(options);
  check_agreement(world, flags_of(options));
  Mesh mesh(world,
            options.parallel.empty() ? fmt::format("dp={}", world.size()) : options.parallel);
  Communicator& group = mesh.axis("dp");
  if (group.size() != world.size())
    fail_input("--parallel: only dp=N is supported yet, got \"{}\"", printable(options.parallel));
  set_thread_count(machine.threads);
  const Device device = open_device(options.device, machine.local_rank);
  require_dtype(device, activation_dtype(options.precision));
  check_agreement(world, {{"--device", name_of(device)}});

  Job job;
  std::optional<RunFolder> folder;
  const Facts contents = read_all(options, group, folder, device, job);
  const TrainOptions& o = job.options;
  Optimizer optimizer(*job.model, optimizer_options(o));
  const std::unique_ptr<Strategy> strategy = data_parallel(group);
  strategy->place(*job.model);
  const std::string identity = identity_text(o, contents);
  const Resumed resumed = resume(o, optimizer, identity, world, folder);
  folder->keep(o);

  Console console(rank0 && !o.quiet, o.log_every);
  const RunLength length = run_length(o, *job.train, job.val.has_value(), group.size());
  print_plan(console, job, machine, resumed, length, group.size());
  std::optional<Metrics> metrics;
  if (rank0) {
    const int64_t step = resumed.state ? resumed.state->rows_of_metrics() : 0;
    metrics.emplace(folder->path(), step, [&](const std::string& text) { console.warning(text); });
  }
  const std::string result = job.full() ? "model" : "adapter";
  const auto write_weights = [&](const fs::path& target) { job.write_result(target); };
  Trainer trainer({.options = o,
                   .model = *job.model,
                   .optimizer = optimizer,
                   .strategy = *strategy,
                   .group = group,
                   .train = *job.train,
                   .val = job.val ? &*job.val : nullptr,
                   .console = console,
                   .metrics = metrics ? &*metrics : nullptr,
                   .length = length,
                   .identity = identity,
                   .write_weights = write_weights,
                   .result_name = result});
  if (resumed.state) trainer.restore(*resumed.state);
  install_stop_signals();
  const RunOutcome outcome = trainer.run();

  if (rank0 && outcome.end != RunEnd::kSignal)
    replace_folder(folder->path() / result, write_weights);
  write_report(job, machine, outcome, length, group, started);
  return print_end(console, job, outcome);
}

}  // namespace tenon
