// SPDX-License-Identifier: Apache-2.0
#include "train/options.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "text/data/documents.h"
#include "train/choices.h"
#include "train/option_kinds.h"

namespace tenon {
namespace {

using Words = std::vector<std::string>;

// A day of the calendar, as "2024-07-26".
void check_date(const std::string& text) {
  int year = 0, month = 0, day = 0;
  char rest = 0;
  const bool shaped = text.size() == 10 && text[4] == '-' && text[7] == '-' &&
                      std::sscanf(text.c_str(), "%4d-%2d-%2d%c", &year, &month, &day, &rest) == 3;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(month),
                                         std::chrono::day(day)};
  if (shaped && date.ok() && year > 0) return;
  fail_input("--date: expected a day as 2024-07-26, got \"{}\"", printable(text));
}

OptionRow as(Counts counts, OptionRow row) {
  row.counts = counts;
  return row;
}

OptionRow of_data(OptionRow row, Counts counts = Counts::kTokens) {
  row.of_data = true;
  return as(counts, std::move(row));
}

OptionRow path(OptionRow row, Counts counts = Counts::kContent) {
  row.path = true;
  return as(counts, std::move(row));
}

Words formats() {
  Words names = {"auto"};
  names.insert(names.end(), document_formats().begin(), document_formats().end());
  return names;
}

std::vector<OptionRow> make_rows() {
  using O = TrainOptions;
  constexpr Counts kLength = Counts::kLength, kJob = Counts::kJob, kRank = Counts::kRank;
  constexpr double kBig = 1e9;
  return {
      path(text_row("model", &O::model, "Model folder in Hugging Face layout")),
      path(list_row("data", &O::data, false,
                    "Training files: .txt, .jsonl, .json, .csv or .parquet, each also as .gz or "
                    ".zst")),
      path(text_row("out", &O::out, "Run folder: created, or empty, or --force"), kJob),
      as(kJob,
         flag_row("force", &O::force, "Overwrite what an earlier run left in the run folder")),
      choice_row(
          "method", &O::method, {"lora", "qlora", "full"},
          "What is trained: a low-rank adapter, one of a base in 4 bits (--quantize nf4), or "
          "every weight"),
      path(text_row("adapter", &O::adapter,
                    "Adapter folder to go on from; its own kind, rank and targets count")),
      integer_row("rank", &O::rank, 1, "Adapter rank"),
      number_row("alpha", &O::alpha, 0, kBig,
                 "Adapter strength: its output is scaled by alpha / rank"),
      number_row("lora-dropout", &O::lora_dropout, 0, 0.999, "Dropout of the adapter's input"),
      flag_row("rslora", &O::rslora, "Scale by alpha / sqrt(rank) instead"),
      list_row("targets", &O::targets, true,
               "Linear layers that get an adapter: names, all-linear, or one regular expression of "
               "whole paths (default: PEFT's for the family)"),
      flag_row("dora", &O::dora, "Train the lengths of the weights' rows apart (DoRA); on CPUs"),
      list_row("exclude-modules", &O::exclude_modules, true,
               "Linear layers that get none after all: names, or one regular expression"),
      list_row("layers", &O::layers, true,
               "Numbers of the blocks that get adapters (default: all)"),
      list_row("layers-pattern", &O::layers_pattern, true,
               "Name of the list of blocks that --layers counts (default: any)"),
      list_row("rank-pattern", &O::rank_pattern, true,
               "Ranks of single modules, NAME=RANK; NAME may be a regular expression"),
      list_row("alpha-pattern", &O::alpha_pattern, true, "Alphas of single modules, NAME=ALPHA"),
      list_row("modules-to-save", &O::modules_to_save, true,
               "Modules trained as a whole and kept in the adapter, e.g. lm_head (servers such as "
               "vLLM refuse them)"),
      choice_row("bias", &O::bias, {"none", "all", "lora_only"},
                 "Biases of the model that are trained; lora_only: of layers with an adapter"),
      flag_row("lora-bias", &O::lora_bias, "Give the adapter's second factor a bias"),
      as(kJob, choice_row(
                   "weights", &O::weights, Words{kAuto, "map", "read", "stream"},
                   "Frozen weights lie in their mapped files; read: which are read from front to "
                   "back first, for file systems whose single pages are slow to come; stream: each "
                   "block's are let go when it has run, so that a base may be larger than memory "
                   "(CPUs); auto: stream where the base does not fit into --memory, read on NFS, "
                   "Lustre, FUSE and the like")),
      choice_row("quantize", &O::quantize, kQuantizations,
                 "What the frozen linear layers become when they are read: 4 bits (NF4, in blocks "
                 "of 64), about a quarter of fp16; or int8 (LLM.int8(), a scale for each row), "
                 "half of it; a checkpoint that has them so needs no flag"),
      flag_row("double-quant", &O::double_quant,
               "Quantize the scales of NF4's blocks too: 4.13 instead of 4.5 bits a weight"),
      choice_row(
          "precision", &O::precision, kPrecisions,
          "Type of activations, and of frozen matrices that are wider. Of --method full's matrices "
          "too with bf16 and fp16 (LitGPT: bf16-true, 16-true), rounded stochastically; "
          "with bf16-mixed and fp16-mixed these are fp32. Gradients, sums, norms, biases and "
          "adapters are fp32 always; fp16 has a loss scale"),
      choice_row("optimizer", &O::optimizer, kOptimizers,
                 "Update rule; adamw8bit keeps moments in 8 bits, adafactor means of rows and "
                 "columns"),
      choice_row("update", &O::update, kUpdates,
                 "When weights are updated: after the step's gradients are known, or each as soon "
                 "as its own is, whose memory is used again (clipped by tensor; CPUs)"),
      number_row("lr", &O::lr, 0, 1e3, "Peak learning rate (auto: 2e-4 for lora, 2e-5 for full)"),
      number_row("weight-decay", &O::weight_decay, 0, 1e3,
                 "Decoupled decay of matrices (norms and biases have none)"),
      number_row("beta1", &O::beta1, 0, 0.999999, "AdamW: decay of the first moment"),
      number_row("beta2", &O::beta2, 0, 0.9999999, "AdamW: decay of the second moment"),
      number_row("eps", &O::eps, 0, 1, "AdamW: added to the denominator"),
      number_row("momentum", &O::momentum, 0, 0.999999, "SGD: momentum"),
      choice_row("schedule", &O::schedule, kSchedules, "Learning rate after the warm-up"),
      as(kLength, number_row("warmup", &O::warmup, 0, kBig,
                             "Warm-up: steps, or below 1 a share of all steps")),
      number_row("clip", &O::clip, 0, kBig, "Largest gradient norm (0: no clipping)"),
      number_row("loss-scale", &O::loss_scale, 1, 1 << 24,
                 "fp16: what the loss is multiplied with at first"),
      integer_row("loss-scale-growth", &O::loss_scale_growth, 1,
                  "fp16: steps without an overflow after which that is doubled"),
      number_row("loss-scale-backoff", &O::loss_scale_backoff, 1e-6, 0.999,
                 "fp16: what an overflow, whose step is skipped, multiplies it with"),
      integer_row("batch", &O::batch, 1, "Sequences an optimizer step, over all ranks"),
      as(kJob, auto_row("micro-batch", &O::micro_batch,
                        "Sequences a forward pass (auto: about 2048 tokens, or fewer so that the "
                        "run fits into --memory)")),
      integer_row("seq-len", &O::seq_len, 0,
                  "Tokens a sequence (0: the model's positions, at most 1024)"),
      as(kLength, number_row("epochs", &O::epochs, 0, kBig, "Passes over the data")),
      as(kLength, integer_row("steps", &O::steps, 0, "Optimizer steps (0: by --epochs)")),
      choice_row("packing", &O::packing, kPackings,
                 "How documents fill sequences: packed and apart, one stream, or one a sequence"),
      choice_row("shuffle", &O::shuffle, {"on", "off"},
                 "Rows in another order each epoch, or as the data has them"),
      choice_row("model-dropout", &O::model_dropout, {"off", "config"},
                 "The checkpoint's own dropouts"),
      of_data(choice_row("format", &O::format, formats(),
                         "What a record is; auto: found by looking at the first one")),
      of_data(list_row("columns", &O::columns, true,
                       "Two fields, the one that is asked and the one that is answered: "
                       "question,answer")),
      of_data(path(text_row("chat-template", &O::chat_template,
                            "What writes conversations: a built-in name, a Jinja file, or none "
                            "(default: the model's own)")),
              Counts::kContent),
      of_data(text_row("system", &O::system, "System message for conversations that have none")),
      of_data(text_row("date", &O::date,
                       "Today's date for chat templates that write it: 2024-07-26 (default: the "
                       "clock's, when the run begins)")),
      of_data(
          choice_row("train-on", &O::train_on, kTrainOns,
                     "What is scored of conversations, and of prompts and answers: all that the "
                     "assistant says, its last turn, or prompts too")),
      of_data(choice_row("overlong", &O::overlong, kOverlongs,
                         "Samples (not texts) longer than --seq-len: cut at the end, left out, or "
                         "an error"),
              Counts::kResult),
      of_data(choice_row("special-tokens-in-text", &O::special_in_text, {"special", "plain"},
                         "Names of special tokens in what people wrote of a conversation: those "
                         "tokens, as transformers reads them, or plain text")),
      of_data(flag_row("skip-bad", &O::skip_bad,
                       "Pass over records that cannot be read, and count them; read a .txt of "
                       "which much is no text")),
      path(list_row("val", &O::val, false, "Validation files")),
      number_row("val-split", &O::val_split, 0, 0.9, "Share of the data held out for validation"),
      as(kJob,
         integer_row("eval-every", &O::eval_every, 0, "Steps between validations (0: ten a run)")),
      as(kJob, integer_row("early-stop", &O::early_stop, 0,
                           "Stop after so many validations without improvement (0: never)")),
      as(kJob,
         checkpoint_row("checkpoint-activations", &O::checkpoint_activations,
                        "Blocks whose activations are dropped and computed again in backward, "
                        "with the same result: all, none, every:K (each K-th), or auto, as "
                        "--memory asks for; alone it means all")),
      as(kJob,
         choice_row("offload", &O::offload, Words{"none", "optimizer"},
                    "optimizer: its state lies in a nameless file of the run folder, whose pages "
                    "are in memory while they are used (CPUs)")),
      as(kJob,
         memory_row("memory", &O::memory,
                    "What a rank may take of the node's memory, e.g. 8GB: planned before "
                    "weights are read, and a limit while it runs (auto: its share of what the "
                    "machine, its cgroup or the job has free)")),
      as(kJob, integer_row("save-every", &O::save_every, 0,
                           "Steps between checkpoints (0: at the end only)")),
      as(kJob, integer_row("keep", &O::keep, 1, "Checkpoints kept")),
      path(text_row("resume", &O::resume,
                    "auto: go on from the newest good checkpoint; or a checkpoint folder"),
           kJob),
      as(kRank,
         flag_row("check-weights", &O::check_weights,
                  "Look for inf and NaN in the weights before the first step, whatever their size "
                  "(up to 2 GiB that is done always)")),
      as(kJob, text_row("device", &O::device,
                        "Where to compute: cpu, cuda, cuda:N, or auto: a card where there is one")),
      as(kJob, text_row("parallel", &O::parallel,
                        "Mesh of ranks, e.g. dp=4 (default: all ranks data-parallel)")),
      as(kRank,
         integer_row("threads", &O::threads, 0, "Threads a rank (0: its share of the machine)")),
      as(kJob, number_row("timeout", &O::timeout, 1, 1e6,
                          "Seconds after which a rank that does not answer is given up; one that "
                          "computes is waited for")),
      integer_row("seed", &O::seed, 0, "Seed of all random numbers"),
      as(kRank, integer_row("log-every", &O::log_every, 1, "Steps between lines of progress")),
      as(kRank, flag_row("show-sample", &O::show_sample,
                         "Print the first sample, also where stderr is no terminal")),
      as(kRank, flag_row("quiet", &O::quiet, "Errors only")),
  };
}

}  // namespace

template <class Number>
Number parse_number(const std::string& where, const std::string& text, Number least, Number most) {
  Number value{};
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size() && begin != end;
  if (!whole || !(value >= least && value <= most)) {
    fail_input("{}: expected {} in {}..{}, got \"{}\"", where,
               std::is_integral_v<Number> ? "an integer" : "a number", least, most,
               printable(text));
  }
  return value;
}
template int parse_number(const std::string&, const std::string&, int, int);
template int64_t parse_number(const std::string&, const std::string&, int64_t, int64_t);
template uint64_t parse_number(const std::string&, const std::string&, uint64_t, uint64_t);
template double parse_number(const std::string&, const std::string&, double, double);

const std::vector<OptionRow>& option_rows() {
  static const std::vector<OptionRow> rows = make_rows();
  return rows;
}

std::string value_text(const OptionRow& row, const TrainOptions& options) {
  std::string text;
  for (const std::string& word : row.get(options)) text += (text.empty() ? "" : ",") + word;
  return text;
}

std::vector<std::filesystem::path> inputs_of(const TrainOptions& options) {
  std::vector<std::filesystem::path> inputs;
  for (const OptionRow& row : option_rows()) {
    if (row.counts != Counts::kContent) continue;
    for (const std::string& word : row.get(options)) {
      if (!word.empty()) inputs.emplace_back(word);
    }
  }
  return inputs;
}

void check_data_options(const DataOptions& o) {
  if (!o.columns.empty() && o.columns.size() != 2) {
    fail_input("--columns: expected two names, what is asked and what is answered, got {}",
               o.columns.size());
  }
  if (!o.columns.empty() && o.format != "auto" && o.format != "columns") {
    fail_input("--columns: not together with --format {}", o.format);
  }
  if (!o.date.empty()) check_date(o.date);
}

void check_options(const TrainOptions& o) {
  if (o.model.empty()) fail_input("--model: expected a model folder");
  if (o.data.empty()) fail_input("--data: expected at least one file");
  if (o.out.empty()) fail_input("--out: expected a folder for the run");
  check_training_options(o);
  if (o.steps == 0 && o.epochs == 0) fail_input("--epochs: expected more than 0, or --steps");
  check_data_options(o);
  if (!o.val.empty() && o.val_split > 0) fail_input("--val-split: not together with --val");
  if (o.early_stop > 0 && o.val.empty() && o.val_split == 0)
    fail_input("--early-stop: needs --val or --val-split");
  if (!o.resume.empty() && o.force) fail_input("--resume: not together with --force");
}

void check_training_options(const TrainOptions& o) {
  if (o.micro_batch > o.batch)
    fail_input("--micro-batch: {} is more than --batch {}", o.micro_batch, o.batch);
  if (o.double_quant && o.quantize == "none" && o.method != "qlora")
    fail_input("--double-quant: expected --method qlora or --quantize nf4 with it");
  if (o.method == "qlora" && o.quantize == "int8")
    fail_input("--method qlora: is of a base in nf4; int8 goes with --method lora");
  if (updates_in_backward(o) && precision_of(o.precision).activations == DType::kF16) {
    fail_input(
        "--update in-backward: not together with --precision {}, whose steps may overflow "
        "and be left out",
        o.precision);
  }
  if (o.dora && o.lora_bias) fail_input("--lora-bias: not together with --dora");
  if (o.method == "full") {
    if (!o.adapter.empty()) fail_input("--adapter: not together with --method full");
    if (o.dora) fail_input("--dora: not together with --method full");
    if (o.quantize != "none") fail_input("--quantize: not together with --method full");
    if (!o.modules_to_save.empty())
      fail_input("--modules-to-save: not together with --method full");
  }
}

}  // namespace tenon
