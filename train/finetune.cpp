// SPDX-License-Identifier: Apache-2.0
#include "train/finetune.h"

#include <ctime>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "comm/mesh.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/folders.h"
#include "core/parallel_for.h"
#include "models/weight_check.h"
#include "text/data/sources.h"
#include "train/budget.h"
#include "train/choices.h"
#include "train/data.h"
#include "train/input.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

// The checkpoint to go on from: its state, and what to say about it.
struct Resumed {
  std::optional<TrainerState> state;
  std::vector<std::string> warnings;
  std::string line;
  std::string identity;  // under which the run goes on, or begins
};

Resumed read_checkpoint(const TrainOptions& o, Optimizer& optimizer, const std::string& identity) {
  Found found;
  if (o.resume == "auto") {
    found = newest_checkpoint(fs::path(o.out) / "checkpoints");
  } else {
    found.folder = o.resume;
  }
  Resumed resumed{.identity = identity};
  for (const std::string& why : found.rejected) {
    resumed.warnings.push_back("checkpoint passed over: " + why);
  }
  if (!found.folder) return resumed;
  resumed.state = load_checkpoint(*found.folder, optimizer, [&](const TrainerState& state) {
    resumed.identity = resumed_identity(identity, state.identity, *found.folder, state.step);
  });
  resumed.line = fmt::format("  resume   {} (step {})", shown(*found.folder), resumed.state->step);
  return resumed;
}

// Rank 0 chooses the checkpoint and reads it; the others get its state over the wire, so they need
// not see the files.
Resumed resume(const TrainOptions& o, Optimizer& optimizer, const std::string& identity,
               Communicator& world, std::optional<RunFolder>& folder) {
  Resumed resumed{.identity = identity};
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
  resumed.identity = world.all_gather_text(resumed.identity).front();
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

// The plan beside what was: bytes by kind when the sum was at its peak.
nlohmann::ordered_json memory_of(const Plan& plan) {
  const MemoryAccount& account = memory_process();
  nlohmann::ordered_json planned, measured;
  for (int kind = 0; kind < kMemoryKinds; ++kind) {
    const auto each = static_cast<MemoryKind>(kind);
    if (each == MemoryKind::kMapped) continue;
    planned[name_of(each)] = plan.parts[static_cast<size_t>(kind)];
    measured[name_of(each)] = account.at_peak(each);
  }
  planned["allocated"] = plan.allocated;
  measured["allocated"] = account.peak();
  planned["resident"] = plan.resident + plan.program;
  measured["resident"] = resident_anonymous_bytes();
  planned["mapped"] = plan.mapped;
  measured["mapped"] = account.peak(MemoryKind::kMapped);
  return {{"plan", planned}, {"measured", measured}};
}

void write_summary(const Input& in, const Machine& machine, const RunOutcome& outcome,
                   const RunLength& length, int ranks, const std::string& started,
                   const std::string& metrics_lost) {
  const Job& job = in.job;
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
  if (in.plan) json["memory"] = memory_of(*in.plan);
  if (!metrics_lost.empty()) json["metrics_lost"] = metrics_lost;
  write_text_atomic(fs::path(job.options.out) / "summary.json", json.dump(2) + "\n");
}

// Bytes that each rank may take of its node's memory: the least of them.
int64_t budget_of(const TrainOptions& o, const Machine& machine, Communicator& world) {
  int64_t bytes[1] = {o.memory == "auto" ? available_memory() / machine.local_ranks
                                         : parse_bytes("--memory", o.memory)};
  world.all_reduce(std::span<int64_t>(bytes), Reduce::kMin);
  return bytes[0];
}

// The options as config.yaml has them: with it the run is the same again. How this process began,
// anew or from a checkpoint, is not of them.
TrainOptions as_resolved(const TrainOptions& options, const RunLength& length,
                         const Machine& machine, Device device) {
  TrainOptions o = options;
  o.micro_batch = length.micro_batch;
  o.eval_every = length.eval_every;
  o.threads = machine.threads;
  o.device = name_of(device);
  o.force = false;
  o.resume.clear();
  return o;
}

// What ends an answer is told where generation would not see it.
void warn_of_endless_turns(Console& console, const Job& job) {
  if (!job.turn || job.turn->id) return;
  if (job.turn->text.empty()) {
    console.warning(
        "the chat template writes nothing behind an answer: generation has no end of turn to stop "
        "at");
  } else {
    console.warning(fmt::format(
        "the chat template's end of turn \"{}\" is no special token of the vocabulary: what stops "
        "at tokens will not stop there",
        printable(job.turn->text, 80)));
  }
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
  console.line(fmt::format("  train    {} of them ({:.2f} %){}, {}", count(job.trained),
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
  if (const int64_t turns = job.tokens->unwritten_turns(); turns > 0) {
    console.warning(fmt::format(
        "{} turn{} of the assistant are not learnt: the chat template does not write them", turns,
        plural(turns)));
  }
  warn_of_endless_turns(console, job);
  if (updates_in_backward(o) && o.clip > 0) {
    console.line(
        fmt::format("  update   in the backward pass: --clip {} holds for each tensor, not "
                    "for all gradients together",
                    o.clip));
  }
  for (const std::string& note : job.notes) console.warning(note);
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

// The result of the run in its place.
void write_final(const RunFolder& folder, const std::string& name,
                 const std::function<void(const fs::path&)>& write_weights, Console& console) {
  try {
    folder.check();
    const std::string leftover = replace_folder(folder.path() / name, write_weights);
    if (!leftover.empty()) console.warning(leftover);
  } catch (const Error& e) {
    fail(e.code(), "{}; {}", e.what(), last_good_text(folder.path()));
  }
}

// Collective. A run that had nothing left to do leaves the report of the one that did it.
void write_report(const Input& in, const Machine& machine, const RunOutcome& outcome,
                  const RunLength& length, Communicator& world, const std::string& started,
                  const std::string& metrics_lost) {
  const fs::path folder = in.job.options.out;
  const bool there = files::exists(folder / "summary.json") && files::exists(folder / "ranks.csv");
  const bool keep =
      world.all_gather_text(there ? "there" : "").front() == "there" && outcome.steps == 0;
  if (!keep) {
    write_ranks(folder, world,
                {.rank = world.rank(),
                 .node = machine.hostname,
                 .threads = machine.threads,
                 .seconds = outcome.seconds,
                 .seconds_waiting = world.traffic().seconds_waiting});
    if (world.rank() == 0) {
      write_summary(in, machine, outcome, length, world.size(), started, metrics_lost);
    }
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

  Input in;
  const int64_t budget = budget_of(options, machine, world);
  read_all(options, group, device, {machine.local_rank, machine.local_ranks, budget}, in);
  Job& job = in.job;
  TrainOptions& o = job.options;
  Optimizer optimizer(*job.model, optimizer_options(o, in.folder->path()));
  const std::unique_ptr<Strategy> strategy = data_parallel(group);
  std::optional<InBackward> in_backward;
  if (updates_in_backward(o)) {
    in_backward.emplace(optimizer, *strategy);
  } else {
    strategy->place(*job.model);
  }
  const RunLength length = run_length(o, *job.train, job.val.has_value(), group.size());
  const Resumed resumed =
      resume(o, optimizer, identity_text(o, in.contents, length.steps), world, in.folder);
  const int64_t warmup = stated_warmup(resumed.identity);
  if (warmup != warmup_steps(o.warmup, length.steps)) o.warmup = static_cast<double>(warmup);
  in.cache->keep();
  in.folder->keep(as_resolved(o, length, machine, device));

  Console console(rank0 && !o.quiet, o.log_every);
  print_plan(console, job, machine, resumed, length, group.size());
  std::optional<Metrics> metrics;
  if (rank0) {
    const int64_t step = resumed.state ? resumed.state->rows_of_metrics() : 0;
    metrics.emplace(in.folder->path(), step, [&](const std::string& text) { console.alarm(text); });
  }
  const std::string result = job.full() ? "model" : "adapter";
  Trainer trainer(
      {.options = o,
       .model = *job.model,
       .optimizer = optimizer,
       .strategy = *strategy,
       .group = group,
       .train = *job.train,
       .val = job.val ? &*job.val : nullptr,
       .console = console,
       .metrics = metrics ? &*metrics : nullptr,
       .in_backward = in_backward ? &*in_backward : nullptr,
       .length = length,
       .identity = resumed.identity,
       .write_weights = [&](const fs::path& target) { job.write_weights(target); },
       .write_result = [&](const fs::path& target,
                           const TrainerState& state) { job.write_result(target, state); },
       .result_name = result,
       .check_folder = [&] { in.folder->check(); }});
  if (resumed.state) trainer.restore(*resumed.state);
  install_stop_signals();
  const RunOutcome outcome =
      naming_weights(*job.model, o.model, o.adapter, [&] { return trainer.run(); });

  if (rank0 && outcome.end != RunEnd::kSignal) {
    write_final(
        *in.folder, result,
        [&](const fs::path& target) { job.write_result(target, outcome.state); }, console);
  }
  const std::string metrics_lost = metrics ? metrics->lost() : "";
  write_report(in, machine, outcome, length, group, started, metrics_lost);
  const int code = print_end(console, job, outcome);
  if (!metrics_lost.empty()) console.alarm("metrics are incomplete: " + metrics_lost);
  return code;
}

}  // namespace tenon
