// SPDX-License-Identifier: Apache-2.0
// tenon evaluate: how well a model predicts texts or answers prompts, with and without an adapter,
// or how near given answers are to references; JSON on stdout. Under mpirun the ranks share the
// work.
#include "tools/evaluate.h"

#include <cstdio>

#include "models/open.h"
#include "models/weight_check.h"
#include "tools/sampling_flags.h"
#include "train/data.h"
#include "train/job.h"

namespace tenon {
namespace {

std::unique_ptr<Model> opened(const EvaluateOptions& options, bool with_adapter, Device device) {
  return open_model({.model = options.model,
                     .device = device,
                     .activations = options.compute.dtype(),
                     .stream = options.compute.stream(),
                     .quantization = options.compute.quantization(),
                     .adapt = frozen_adapter(with_adapter ? options.adapter : "")})
      .model;
}

Figures run_tasks(const EvaluateOptions& options, World& world, Console& console) {
  const Device device = options.compute.open(world.local_rank());
  const bool adapted = !options.adapter.empty();
  std::unique_ptr<Model> model = opened(options, adapted, device);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(options.model);
  if (!tokenizer->note().empty()) console.warning(tokenizer->note());
  EvaluationSetting setting{.options = options,
                            .positions = model->max_positions(),
                            .rows = model->vocabulary(),
                            .positions_text = model->positions_text(),
                            .generation = options.generation,
                            .stop = {},
                            .tokenizer = *tokenizer,
                            .world = world.communicator(),
                            .console = console};
  setting.generation.sampling = options.sampling->over({});
  setting.generation.dtype = options.compute.dtype();
  if (options.task == "generate") {
    const auto chat = chat_template(options.reading, options.model, options.adapter);
    TextEnds ends = text_ends(options.model, *tokenizer, model->vocabulary(), chat.get());
    setting.generation.end_tokens = std::move(ends.tokens);
    setting.stop = std::move(ends.texts);
  }
  const EvaluationTask task =
      options.task == "generate" ? answer_task(setting) : loss_task(setting);
  if (world.rank() == 0) {
    const std::string unread = describe_unread(
        options.data, tokenize_options(options.reading, options.model, options.adapter));
    if (!unread.empty()) console.line(unread);
  }
  const Figures figures = naming_weights(*model, options.model, options.adapter, [&] {
    return task(*model, adapted ? "adapter" : "model");
  });
  if (!options.compare_base) return figures;
  // One after the other, so that both need the memory of one; the adapter first, for it is the
  // adapter's files that may be bad.
  model.reset();
  model = opened(options, false, device);
  const Figures base = task(*model, "base");
  if (world.rank() == 0) console.line(comparison_table(base, figures));
  return {{"base", base}, {"adapter", figures}};
}

int run_evaluate(const EvaluateOptions& given, World& world) {
  EvaluateOptions options = given;
  if (options.score.empty()) {
    settle_date(options.reading, options.model, options.adapter, world.communicator());
  }
  const bool speaks = world.rank() == 0;
  Console console(speaks, 1);
  if (!options.score.empty() && !speaks) return 0;
  const Figures figures = options.score.empty() ? run_tasks(options, world, console)
                                                : score_file(options.score, console);
  if (speaks) std::printf("%s\n", figures.dump().c_str());
  return 0;
}

const std::vector<const char*> kAnswerFlags = {
    "--samples", "--batch", "--max-tokens", "--temperature",        "--top-k",
    "--top-p",   "--min-p", "--seed",       "--repetition-penalty", "--force"};

// Refuses flags that do not go together.
void check_flags(const EvaluateOptions& options, const Flags& flags) {
  const auto refuse = [&](const std::vector<const char*>& names, const std::string& why) {
    for (const char* name : names) {
      if (flags.given(name)) fail_input("{}: {}", name, why);
    }
  };
  if (!options.score.empty()) {
    refuse({"--model", "--adapter", "--data", "--task", "--stride", "--limit", "--seq-len",
            "--micro-batch", "--packing", "--compare-base", "--precision", "--device", "--quantize",
            "--double-quant", "--weights"},
           "does not go with --score, which needs no model");
    refuse(kAnswerFlags, "expected --task generate with it");
    return;
  }
  if (options.model.empty() || options.data.empty()) {
    fail_input("evaluate: expected --model DIR and --data FILE..., or --score FILE, got no {}",
               options.model.empty() ? "--model" : "--data");
  }
  if (options.task == "generate") {
    refuse({"--stride", "--seq-len", "--packing", "--micro-batch"},
           "does not go with --task generate");
  } else {
    refuse(kAnswerFlags, "expected --task generate with it");
  }
  if (options.samples.empty()) refuse({"--force"}, "expected --samples FILE with it");
  if (options.adapter.empty()) refuse({"--compare-base"}, "expected --adapter DIR with it");
  if (options.packing == "none") refuse({"--stride"}, "does not go with --packing none");
}

}  // namespace

std::string comparison_table(const Figures& base, const Figures& adapter) {
  std::string table = fmt::format("{:<16} {:>12} {:>12} {:>12}", "", "base", "adapter", "change");
  for (const auto& [name, value] : base.items()) {
    if (!value.is_number_float() || !adapter.contains(name)) continue;
    const double before = value, after = adapter.at(name);
    table +=
        fmt::format("\n{:<16} {:>12.4f} {:>12.4f} {:>+12.4f}", name, before, after, after - before);
  }
  return table;
}

Command add_evaluate(const Flags& program) {
  auto options = std::make_shared<EvaluateOptions>();
  const Flags flags = program.command(
      "evaluate", "Loss and perplexity of a model on text, or scores of answers, as JSON");
  flags.word("--model", options->model, "Model folder");
  flags.word("--adapter", options->adapter, "PEFT adapter folder");
  flags.flag("--compare-base", options->compare_base,
             "The model without the adapter too, beside it");
  flags.words("--data", options->data,
              "Files: .txt, .jsonl, .json, .csv or .parquet, each also as .gz or .zst");
  flags.choice("--task", options->task, {"perplexity", "generate"},
               "perplexity; or generate: answers to the prompts, scored by BLEU and ROUGE");
  flags.word("--score", options->score,
             "JSONL file with \"hypothesis\" and \"reference\" a line: BLEU and ROUGE, "
             "without a model");
  flags.number<int64_t>("--limit", options->limit, 1, int64_t{1} << 40,
                        "At most so many documents or prompts (default: all)");
  flags.number<int64_t>("--seq-len", options->seq_len, 1, 1 << 24,
                        "Tokens a sequence (default: the model's positions, at most 1024)");
  flags.number<int64_t>("--stride", options->stride, 1, 1 << 24,
                        "Windows of --seq-len tokens begin every so many tokens, and each predicts "
                        "only what those before did not (default: no windows)");
  flags.number<int64_t>("--micro-batch", options->micro_batch, 1, 1 << 20,
                        "Sequences a forward pass (default: about 2048 tokens)");
  flags.choice("--packing", options->packing, {"document", "concat", "none"},
               "document, concat or none");
  flags.word("--samples", options->samples,
             "JSONL file to write: each prompt, reference, answer and its scores");
  flags.flag("--force", options->force, "Replace the file of --samples");
  flags.number<int64_t>("--batch", options->generation.batch, 1, 1 << 12, "Answers made at a time");
  flags.number<int64_t>("--max-tokens", options->generation.max_tokens, 1, 1 << 24,
                        "Most tokens of an answer");
  options->sampling.emplace(flags);
  const OptionFlags reading(flags, [](const OptionRow& row) { return row.of_data; });
  add_compute(flags, options->compute);
  add_threads(flags, options->threads);
  return {flags, [options, flags, reading] {
            check_flags(*options, flags);
            reading.apply(options->reading);
            check_data_options(options->reading);
            options->compute.dtype();  // wrong words are told before ranks start
            options->compute.quantization();
            return in_world(options->threads, [&](World& world, const Machine&) {
              return run_evaluate(*options, world);
            });
          }};
}

}  // namespace tenon
