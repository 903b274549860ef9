// SPDX-License-Identifier: Apache-2.0
#include "train/finetune.h"

#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>

#include "comm/agree.h"
#include "comm/mesh.h"
#include "core/backend.h"
#include "core/error.h"
#include "core/parallel_for.h"
#include "models/adapter.h"
#include "models/weights.h"
#include "text/packing.h"
#include "text/token_file.h"
#include "text/tokenizer.h"
#include "train/run_folder.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

// The options with every "0: by ..." replaced by what it means here.
TrainOptions resolve(TrainOptions options, const Model& model) {
  if (options.lr == 0) options.lr = options.method == "full" ? 2e-5 : 2e-4;
  if (options.seq_len == 0) options.seq_len = std::min<int64_t>(1024, model.max_positions());
  if (options.seq_len > model.max_positions()) {
    fail_input("--seq-len: {} tokens, but the model has {} positions", options.seq_len, model.max_positions());
  }
  if (options.method == "lora" && options.targets.empty()) options.targets = model.default_targets();
  return options;
}

LoraOptions lora_of(const TrainOptions& o) {
  return {.rank = o.rank, .alpha = o.alpha, .dropout = o.lora_dropout, .rslora = o.rslora, .targets = o.targets};
}

// Identity of the model's bytes: config.json and a sample of the weights.
uint64_t model_fingerprint(const std::string& folder) {
  std::string parts;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "config.json" || entry.path().extension() == ".safetensors") {
      parts += fmt::format("{} {};", name, hex(fingerprint_file(entry.path())));
    }
  }
  // Directory order differs between file systems; a sum of hashes does not depend on it.
  uint64_t sum = 0;
  for (size_t begin = 0; begin < parts.size();) {
    const size_t end = parts.find(';', begin);
    sum += hash_bytes(std::as_bytes(std::span(parts).subspan(begin, end - begin)));
    begin = end + 1;
  }
  return sum;
}

// What must be the same on all ranks and in a resumed run: "name=value" lines.
std::string identity_of(const TrainOptions& options, uint64_t model, uint64_t tokenizer, uint64_t data) {
  std::string text = fmt::format("model content={}\ntokenizer={}\ndata content={}\n", hex(model), hex(tokenizer), hex(data));
  for (const OptionRow& row : option_rows()) {
    if (row.machine || std::string(row.name) == "model" || std::string(row.name) == "data" || std::string(row.name) == "val") {
      continue;  // paths may differ where contents do not
    }
    std::string value;
    for (const std::string& word : row.get(options)) value += (value.empty() ? "" : ",") + word;
    text += fmt::format("--{}={}\n", row.name, value);
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> facts_of(const std::string& identity) {
  std::vector<std::pair<std::string, std::string>> facts;
  for (size_t begin = 0; begin < identity.size();) {
    const size_t end = identity.find('\n', begin), equals = identity.find('=', begin);
    facts.emplace_back(identity.substr(begin, equals - begin), identity.substr(equals + 1, end - equals - 1));
    begin = end + 1;
  }
  return facts;
}

// A checkpoint of another run must not be gone on with: both values of each difference are named.
void check_identity(const std::string& mine, const std::string& theirs, const fs::path& checkpoint) {
  if (mine == theirs) return;
  const auto wanted = facts_of(mine), stored = facts_of(theirs);
  std::string differences;
  for (size_t i = 0; i < std::max(wanted.size(), stored.size()); ++i) {
    if (i < wanted.size() && i < stored.size() && wanted[i] == stored[i]) continue;
    differences += fmt::format("{}{}: now {}, then {}", differences.empty() ? "" : "; ", i < wanted.size() ? wanted[i].first : "?",
                               i < wanted.size() ? wanted[i].second : "?", i < stored.size() ? stored[i].second : "?");
  }
  fail(Exit::kEnvironment, "--resume {}: it belongs to another run: {}", shown(checkpoint), printable(differences, 400));
}

// The tokenized data: made by rank 0, and again by ranks that do not see rank 0's file system.
struct Data {
  std::optional<PackedRows> train, val;
  uint64_t fingerprint = 0;
};

std::string notes_of(const PackingStatistics& s) {
  std::string notes;
  if (s.cut_documents > 0) notes += fmt::format("; {} longer than a row", s.cut_documents);
  if (s.dropped_documents > 0) notes += fmt::format("; {} with nothing to predict left out", s.dropped_documents);
  if (s.lost_targets > 0) notes += fmt::format("; {} tokens did not fit", s.lost_targets);
  return notes;
}

TokenFile tokenized(const fs::path& cache, const std::vector<std::string>& files, const Tokenizer& tokenizer, Communicator& world,
                    bool& made) {
  const std::vector<fs::path> sources(files.begin(), files.end());
  const auto build = [&] {
    fs::create_directories(cache.parent_path());
    return build_or_open(cache, sources, tokenizer, {}, &made);
  };
  std::optional<TokenFile> file;
  if (world.rank() == 0) file = build();
  world.barrier();
  return file ? *file : build();
}

Data prepare_data(const TrainOptions& o, const Tokenizer& tokenizer, const Model& model, RunFolder& folder, Communicator& world) {
  const PackingOptions packing{.mode = packing_mode(o.packing), .seq_len = o.seq_len, .pad_id = tokenizer.eos_id().value_or(0)};
  Data data;
  bool made = false;
  const TokenFile file = tokenized(folder.cache("train.tokens"), o.data, tokenizer, world, made);
  const auto check_ids = [&](const TokenFile& tokens) {
    if (tokens.largest_id() >= model.vocabulary()) {
      fail_input("{}: token {} is past the model's {} embedding rows", shown(o.model), tokens.largest_id(), model.vocabulary());
    }
  };
  check_ids(file);
  data.fingerprint = file.key().sources + file.key().options;
  if (!o.val.empty()) {
    const TokenFile val = tokenized(folder.cache("val.tokens"), o.val, tokenizer, world, made);
    check_ids(val);
    data.fingerprint += 3 * val.key().sources;
    data.train.emplace(file, all_documents(file), packing);
    data.val.emplace(val, all_documents(val), packing);
  } else if (o.val_split > 0) {
    const DocumentSplit split = split_documents(file, o.val_split, static_cast<uint64_t>(o.seed));
    data.train.emplace(file, split.train, packing);
    data.val.emplace(file, split.validation, packing);
  } else {
    data.train.emplace(file, all_documents(file), packing);
  }
  return data;
}

void print_data(Console& console, const TrainOptions& o, const Data& data) {
  const PackingStatistics& s = data.train->statistics();
  console.line(fmt::format("  data     {} documents, {} tokens, {} scored; {} rows of up to {} tokens, {:.1f} % full{}", s.documents,
                           count_text(static_cast<double>(s.tokens)), count_text(static_cast<double>(s.scored)), s.rows, o.seq_len,
                           100 * s.fill, notes_of(s)));
  if (data.val) console.line(fmt::format("  held out {} rows, {} scored tokens", data.val->rows(), data.val->statistics().scored));
}

// Rank 0 chooses the checkpoint and reads it; the others get its state over the wire, so they need not see the files.
std::optional<TrainerState> resume(const TrainOptions& o, const fs::path& folder, Optimizer& optimizer, const std::string& identity,
                                   Communicator& world, Console& console) {
  std::string text;
  std::string failure;
  int code = 0;
  if (world.rank() == 0 && !o.resume.empty()) {
    try {
      Found found;
      if (o.resume == "auto") {
        found = newest_checkpoint(folder / "checkpoints");
      } else {
        found.folder = o.resume;
      }
      for (const std::string& why : found.rejected) console.warning("checkpoint passed over: " + why);
      if (found.folder) {
        const TrainerState state = load_checkpoint(*found.folder, optimizer);
        check_identity(identity, state.identity, *found.folder);
        text = state_text(state);
        console.line(fmt::format("  resume   {} (step {})", shown(*found.folder), state.step));
      }
    } catch (const Error& e) {
      failure = e.what();
      code = static_cast<int>(e.code());
    }
  }
  const std::vector<std::string> texts = world.all_gather_text(text);
  int64_t codes[1] = {code};
  world.all_reduce(std::span<int64_t>(codes), Reduce::kMax);
  if (codes[0] != 0) throw Error(static_cast<Exit>(codes[0]), failure);
  if (texts[0].empty()) return std::nullopt;
  optimizer.visit_state([&](const std::string&, Tensor& tensor) {
    world.broadcast({tensor.raw(), tensor.numel(), tensor.dtype()}, 0).wait();
  });
  const TrainerState state = parse_state(texts[0], "checkpoint");
  optimizer.set_steps(state.optimizer_steps);
  return state;
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

void write_summary(const fs::path& folder, const TrainOptions& o, const Machine& machine, const RunOutcome& outcome,
                   const RunLength& length, Communicator& world, int64_t trained, int64_t all, const std::string& started) {
  constexpr const char* kEnds[] = {"finished", "stopped early", "stopped by a signal"};
  nlohmann::ordered_json json = {{"tenon", machine.version},
                                 {"build", machine.build},
                                 {"kernels", kernels().name},
                                 {"host", machine.hostname},
                                 {"ranks", world.size()},
                                 {"threads", machine.threads},
                                 {"started", started},
                                 {"ended", now_text()},
                                 {"end", kEnds[static_cast<int>(outcome.end)]},
                                 {"method", o.method},
                                 {"trained_parameters", trained},
                                 {"parameters", all},
                                 {"steps", outcome.state.step},
                                 {"steps_planned", length.steps},
                                 {"micro_batch", length.micro_batch},
                                 {"tokens", outcome.state.tokens},
                                 {"seconds", outcome.seconds},
                                 {"first_loss", outcome.first_loss},
                                 {"last_loss", outcome.last_loss},
                                 {"memory_peak_bytes", resident_peak_bytes()}};
  if (outcome.state.best_step >= 0) {
    json["best_val_loss"] = outcome.state.best_val;
    json["best_step"] = outcome.state.best_step;
  }
  write_text_atomic(folder / "summary.json", json.dump(2) + "\n");
}

void print_header(Console& console, const TrainOptions& o, const Machine& machine, const Model& model, const LoadedWeights& weights,
                  int64_t all, int64_t trained, Communicator& world) {
  console.line(fmt::format("{}  finetune {}  {} rank{} x {} thread{} ({})", machine.version, o.method, world.size(),
                           world.size() == 1 ? "" : "s", machine.threads, machine.threads == 1 ? "" : "s", kernels().name));
  console.line(fmt::format("  model    {}: {} parameters, {} blocks, {} in {}", model.family(), count_text(static_cast<double>(all)),
                           model.blocks(), name_of(weights.dtype), weights.file));
  console.line(fmt::format("  train    {} of them ({:.2f} %){}, activations {}", count_text(static_cast<double>(trained)),
                           100.0 * static_cast<double>(trained) / static_cast<double>(all),
                           o.method == "lora" ? fmt::format(", rank {}", o.rank) : "", o.precision));
  if (!machine.warning.empty()) console.warning(machine.warning);
}

void check_vocabulary(const Tokenizer& tokenizer, const Model& model, const std::string& folder) {
  if (tokenizer.vocabulary_size() > model.vocabulary()) {
    fail_input("{}: the tokenizer ({}) has {} entries, but the model only {} embedding rows", shown(folder), tokenizer.file(),
               tokenizer.vocabulary_size(), model.vocabulary());
  }
}

}  // namespace

int finetune(TrainOptions options, Communicator& world, const Machine& machine) {
  const std::string started = now_text();
  check_options(options);
  Mesh mesh(world, options.parallel.empty() ? fmt::format("dp={}", world.size()) : options.parallel);
  Communicator& group = mesh.axis("dp");
  if (group.size() != world.size()) fail_input("--parallel: only dp=N is supported yet, got \"{}\"", printable(options.parallel));
  set_thread_count(machine.threads);
  Console console(world.rank() == 0 && !options.quiet, options.log_every);

  const std::unique_ptr<Model> model = build_model(options.model);
  const TrainOptions o = resolve(options, *model);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(o.model);
  check_vocabulary(*tokenizer, *model, o.model);
  const bool full = o.method == "full";
  model->visit_parameters([&](const std::string&, Parameter& parameter) { parameter.trainable = full; });
  const LoadedWeights weights = load_weights(*model, o.model);
  if (!full) attach_lora(*model, lora_of(o), static_cast<uint64_t>(o.seed));
  const int64_t trained = count_parameters(*model, [](const Parameter& p) { return p.trainable; });
  const int64_t all = count_parameters(*model, [](const Parameter&) { return true; });

  RunFolder folder(o, world.rank() == 0);
  const Data data = prepare_data(o, *tokenizer, *model, folder, world);
  if (o.batch < group.size() || data.train->rows() < group.size()) {
    fail_input("more ranks ({}) than sequences: a batch of {}, {} rows of data", group.size(), o.batch, data.train->rows());
  }
  const std::string identity = identity_of(o, model_fingerprint(o.model), tokenizer->fingerprint(), data.fingerprint);
  auto facts = facts_of(identity);
  facts.emplace_back("build", machine.build);
  check_agreement(world, facts);

  Optimizer optimizer(*model, {.kind = o.optimizer == "sgd" ? OptimizerKind::kSgd : OptimizerKind::kAdamW,
                               .beta1 = o.beta1,
                               .beta2 = o.beta2,
                               .eps = o.eps,
                               .momentum = o.momentum,
                               .weight_decay = o.weight_decay});
  const std::unique_ptr<Strategy> strategy = data_parallel(group);
  strategy->place(*model);
  // Nothing was said so far: bad input is one line.
  print_header(console, o, machine, *model, weights, all, trained, world);
  print_data(console, o, data);
  const std::optional<TrainerState> state = resume(o, folder.path(), optimizer, identity, world, console);
  folder.keep(o);

  std::optional<Metrics> metrics;
  if (world.rank() == 0) {
    metrics.emplace(folder.path(), state ? state->step : 0, [&](const std::string& text) { console.warning(text); });
  }
  const std::string result = full ? "model" : "adapter";
  const auto write_weights = [&](const fs::path& target) {
    if (full) {
      copy_model_files(o.model, target);
      save_weights(*model, target, weights.dtype);
    } else {
      write_adapter(*model, target, lora_of(o), o.model);
    }
  };
  const RunLength length = run_length(o, *data.train, data.val.has_value(), group.size());
  const int64_t rows = std::min<int64_t>(o.batch, data.train->rows());
  console.line(fmt::format("  batch    {} sequences over {} rank{}, micro-batches of {}; {} steps an epoch, {} in all", rows, group.size(),
                           group.size() == 1 ? "" : "s", length.micro_batch, length.steps_per_epoch, length.steps));
  console.line(fmt::format("  output   {}", shown(folder.path())));

  Trainer trainer({.options = o,
                   .model = *model,
                   .optimizer = optimizer,
                   .strategy = *strategy,
                   .group = group,
                   .train = *data.train,
                   .val = data.val ? &*data.val : nullptr,
                   .console = console,
                   .metrics = metrics ? &*metrics : nullptr,
                   .length = length,
                   .identity = identity,
                   .write_weights = write_weights,
                   .result_name = result});
  if (state) trainer.restore(*state);
  install_stop_signals();
  const RunOutcome outcome = trainer.run();

  if (world.rank() == 0 && outcome.end != RunEnd::kSignal) replace_folder(folder.path() / result, write_weights);
  write_ranks(folder.path(), world,
              {.rank = world.rank(), .node = machine.hostname, .threads = machine.threads, .seconds = outcome.seconds,
               .seconds_waiting = group.traffic().seconds_waiting});
  if (world.rank() == 0) {
    write_summary(folder.path(), o, machine, outcome, length, world, trained, all, started);
    sync_directory(folder.path());
  }
  world.barrier();
  if (outcome.end == RunEnd::kSignal) {
    console.line(fmt::format("stopped by signal {} after step {}: run again with --resume auto", stop_signal(), outcome.state.step));
    return static_cast<int>(Exit::kStopped);
  }
  console.line(fmt::format("done in {}: loss {:.4f} -> {:.4f}{}", duration_text(outcome.seconds), outcome.first_loss, outcome.last_loss,
                           outcome.state.best_step >= 0
                               ? fmt::format(", best validation loss {:.4f} at step {}", outcome.state.best_val, outcome.state.best_step)
                               : ""));
  console.line(fmt::format("  {:8} {}", result, shown(folder.path() / result)));
  return 0;
}

}  // namespace tenon
