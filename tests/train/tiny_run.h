// SPDX-License-Identifier: Apache-2.0
// A training run that takes milliseconds: a tiny GPT-2 that learns which token follows which.
#pragma once

#include <filesystem>
#include <fstream>
#include <optional>

#include "comm/threads.h"
#include "core/backend.h"
#include "core/json.h"
#include "core/parallel_for.h"
#include "tests/core/temp_folder.h"
#include "tests/models/tiny_model.h"
#include "text/data/token_file.h"
#include "train/choices.h"
#include "train/trainer.h"

namespace tenon::test {

// Documents of 4 to 12 tokens in which token t is followed by 7 t + 3 (mod 41), except where chance
// says otherwise. The first tokens of every third document are a prompt: not scored.
inline TokenFile tiny_tokens(const std::filesystem::path& path, int64_t documents, uint32_t seed) {
  std::mt19937 random(seed);
  TokenFileWriter writer(path, {.tokenizer = 1, .sources = seed, .options = 1}, 41);
  for (int64_t d = 0; d < documents; ++d) {
    std::vector<int32_t> ids = {static_cast<int32_t>(random() % 41)};
    const size_t length = 4 + random() % 9;
    while (ids.size() < length) {
      const auto any = static_cast<int32_t>(random() % 41);
      ids.push_back(random() % 8 == 0 ? any : (7 * ids.back() + 3) % 41);
    }
    const std::span<const int32_t> all = ids;
    const size_t prompt = d % 3 == 0 ? 2 : 0;
    writer.append(all.first(prompt), false);
    writer.append(all.subspan(prompt), true);
    writer.end_document();
  }
  writer.commit();
  return TokenFile::open(path);
}

// Short, with everything in play: warm-up, clipping, decay, dropout, rows of unequal length.
inline TrainOptions tiny_options(const std::filesystem::path& out) {
  TrainOptions o;
  o.out = out.string();
  o.rank = 3;
  o.targets = {"all-linear"};
  o.lr = 0.02;
  o.lora_dropout = 0.1;
  o.model_dropout = "config";
  o.weight_decay = 0.01;
  o.warmup = 2;
  o.batch = 6;
  o.micro_batch = 2;
  o.seq_len = 12;
  o.steps = 6;
  o.packing = "none";
  o.save_every = 0;
  o.quiet = true;
  o.device = "cpu";
  return o;
}

struct TinyResult {
  RunOutcome outcome;
  std::map<std::string, std::vector<float>> state;  // weights and moments, as a checkpoint has them
  int64_t gradients_left = 0;  // bytes of gradients that are kept between steps
};

// What one rank does. `from` is a checkpoint to go on from, or empty.
inline TinyResult run_rank(const TrainOptions& o, Communicator& world, const TokenFile& train,
                           const TokenFile* val, const std::filesystem::path& from = {},
                           const std::function<Request()>& asked = requested) {
  const auto model = tiny_model();
  const LoraOptions lora{
      .rank = o.rank, .alpha = o.alpha, .dropout = o.lora_dropout, .targets = o.targets};
  const bool full = o.method == "full";
  full ? train_all(*model) : attach_lora(*model, lora, static_cast<uint64_t>(o.seed));
  const Precision precision = precision_of(o.precision);
  place(*model, open_device(o.device), precision.activations);
  if (full) {
    model->visit_parameters([&](const std::string&, Parameter& parameter) {
      if (parameter.vector || precision.weights == DType::kF32) return;
      parameter.value = cast(parameter.value, precision.weights, MemoryKind::kWeights);
      require_grad(parameter.value);
    });
  }
  Optimizer optimizer(*model, {.rule = chosen(kOptimizers, "--optimizer", o.optimizer),
                               .momentum = o.momentum,
                               .weight_decay = o.weight_decay,
                               .seed = static_cast<uint64_t>(o.seed),
                               .least_8bit = 300});
  const auto strategy = data_parallel(world, 1000);
  std::optional<InBackward> in_backward;
  if (updates_in_backward(o)) {
    in_backward.emplace(optimizer, *strategy);
  } else {
    strategy->place(*model);
  }
  std::optional<TrainerState> state;
  if (!from.empty()) state = load_checkpoint(from, optimizer);
  const PackingOptions packing{.mode = packing_mode(o.packing), .seq_len = o.seq_len};
  const PackedRows rows(train, all_documents(train), packing);
  std::optional<PackedRows> held_out;
  if (val != nullptr) held_out.emplace(*val, all_documents(*val), packing);
  Console console(false, 1);
  std::optional<Metrics> metrics;
  if (world.rank() == 0) {
    std::filesystem::create_directories(o.out);
    metrics.emplace(o.out, state ? state->rows_of_metrics() : 0,
                    [](const std::string& text) { throw std::runtime_error(text); });
  }
  const auto write_weights = [&](const std::filesystem::path& folder) {
    full ? save_weights(*model, folder, DType::kF32) : write_adapter(*model, folder, lora, "");
  };
  Trainer trainer({.options = o,
                   .model = *model,
                   .optimizer = optimizer,
                   .strategy = *strategy,
                   .group = world,
                   .train = rows,
                   .val = held_out ? &*held_out : nullptr,
                   .console = console,
                   .metrics = metrics ? &*metrics : nullptr,
                   .in_backward = in_backward ? &*in_backward : nullptr,
                   .length = run_length(o, rows, held_out.has_value(), world.size()),
                   .identity = "a tiny run",
                   .write_weights = write_weights,
                   .write_result = [&](const auto& folder, const auto&) { write_weights(folder); },
                   .result_name = full ? "model" : "adapter",
                   .requested = asked});
  if (state) trainer.restore(*state);
  TinyResult result{.outcome = trainer.run()};
  optimizer.visit_state([&](const std::string& name, Tensor& tensor) {
    result.state[name] = values(tensor.to(Device::kCPU));
  });
  for (size_t i = 0; i < optimizer.slots(); ++i) {
    if (optimizer.gradient(i).grad.defined())
      result.gradients_left += optimizer.gradient(i).grad.bytes();
  }
  return result;
}

// The run on that many ranks, of one thread each unless said otherwise.
inline std::vector<TinyResult> run_tiny(const TrainOptions& o, int ranks, const TokenFile& train,
                                        const TokenFile* val = nullptr,
                                        const std::filesystem::path& from = {}, int threads = 1) {
  set_thread_count(ranks * threads);  // on_ranks divides them
  return on_ranks(ranks, [&](Communicator& world) { return run_rank(o, world, train, val, from); });
}

// A column of metrics.jsonl, from the first row on; absent values are NaN.
inline std::vector<double> metric(const std::filesystem::path& run, const std::string& name) {
  std::vector<double> column;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const Json row = parse_json(line, "metrics.jsonl");
    column.push_back(row.contains(name) && row[name].is_number() ? row[name].get<double>() : NAN);
  }
  return column;
}

}  // namespace tenon::test
