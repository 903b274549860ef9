// SPDX-License-Identifier: Apache-2.0
// tenon evaluate --task perplexity: the mean loss of a model on text, as JSON on stdout; under
// mpirun the ranks share the work.
#include <unistd.h>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/adapter.h"
#include "models/weights.h"
#include "text/tokenizer.h"
#include "tools/command.h"
#include "tools/in_world.h"
#include "train/data.h"
#include "train/job.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct EvaluateOptions {
  std::string model, adapter, task = "perplexity", packing = "document";
  Compute compute;
  std::vector<std::string> data;
  TrainOptions reading;  // its DataOptions
  int64_t seq_len = 0, micro_batch = 0;
  int threads = 0;
};

// A folder for one moment: rank by rank, so that no shared file system is needed.
class ScratchFolder {
 public:
  explicit ScratchFolder(int rank)
      : path_(fs::temp_directory_path() /
              fmt::format("tenon-evaluate-{}-{}", static_cast<int>(getpid()), rank)) {
    fs::create_directories(path_);
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// The data as a token file that has no name any more: nothing stays behind, however the job ends.
TokenFile tokenized(const EvaluateOptions& options, const Tokenizer& tokenizer, int rank) {
  const ScratchFolder scratch(rank);
  const std::vector<fs::path> sources(options.data.begin(), options.data.end());
  return build_or_open(scratch.path() / "data.tokens", sources, tokenizer,
                       tokenize_options(options.reading, options.model));
}

int run_evaluate(const EvaluateOptions& options, World& world) {
  const Device device = options.compute.open(world.local_rank());
  const std::unique_ptr<Model> model = build_model(options.model);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(options.model);
  check_vocabulary(*tokenizer, *model, options.model);
  load_weights(*model, options.model);
  if (!options.adapter.empty()) read_adapter(*model, options.adapter, false);
  place(*model, device, options.compute.dtype());
  const TokenFile tokens = tokenized(options, *tokenizer, world.rank());
  PackingOptions packing{.mode = packing_mode(options.packing),
                         .overlong = overlong_mode(options.reading.overlong),
                         .pad_id = tokenizer->eos_id().value_or(0)};
  packing.seq_len =
      options.seq_len > 0 ? options.seq_len : std::min<int64_t>(1024, model->max_positions());
  if (packing.seq_len > model->max_positions()) {
    fail_input("--seq-len: {} tokens, but the model has {} positions", packing.seq_len,
               model->max_positions());
  }
  const PackedRows rows(tokens, all_documents(tokens), packing);
  const int64_t micro_batch =
      options.micro_batch > 0 ? options.micro_batch : std::max<int64_t>(1, 2048 / packing.seq_len);
  const Evaluation result =
      evaluate(*model, rows, world.communicator(), micro_batch, options.compute.dtype());
  if (!std::isfinite(result.loss))
    fail(Exit::kNumeric, "evaluate: the loss is {}", not_finite_text(result.loss));
  if (world.rank() == 0) {
    const nlohmann::ordered_json json = {{"loss", result.loss},
                                         {"perplexity", std::exp(result.loss)},
                                         {"tokens", result.tokens},
                                         {"rows", rows.rows()},
                                         {"documents", rows.statistics().documents}};
    std::printf("%s\n", json.dump().c_str());
  }
  return 0;
}

}  // namespace

Command add_evaluate(CLI::App& app) {
  auto options = std::make_shared<EvaluateOptions>();
  CLI::App* command =
      app.add_subcommand("evaluate", "Loss and perplexity of a model on text, as JSON");
  command->add_option("--model", options->model, "Model folder")->required();
  command->add_option("--adapter", options->adapter, "PEFT adapter folder");
  command
      ->add_option("--data", options->data,
                   "Files: .txt, .jsonl, .json, .csv or .parquet, each also as .gz or .zst")
      ->required();
  command->add_option("--task", options->task, "perplexity")
      ->check(CLI::IsMember({"perplexity"}))
      ->capture_default_str();
  add_number<int64_t>(*command, "--seq-len", options->seq_len, 1, 1 << 24,
                      "Tokens a sequence (default: the model's positions, at most 1024)");
  add_number<int64_t>(*command, "--micro-batch", options->micro_batch, 1, 1 << 20,
                      "Sequences a forward pass (default: about 2048 tokens)");
  command->add_option("--packing", options->packing, "document, concat or none")
      ->check(CLI::IsMember({"document", "concat", "none"}))
      ->capture_default_str();
  const OptionFlags reading(*command, [](const OptionRow& row) { return row.of_data; });
  add_compute(*command, options->compute);
  add_threads(*command, options->threads);
  return {command, [options, reading] {
            reading.apply(options->reading);
            check_data_options(options->reading);
            options->compute.dtype();  // a wrong word is told before ranks start
            return in_world(options->threads, [&](World& world, const Machine&) {
              return run_evaluate(*options, world);
            });
          }};
}

}  // namespace tenon
