// SPDX-License-Identifier: Apache-2.0
#include "train/options.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "text/data/documents.h"

namespace tenon {
namespace {

using Words = std::vector<std::string>;

std::string flag(const char* name) { return std::string("--") + name; }

std::string number_text(double value) { return fmt::format("{}", value); }

const std::string& one(const char* name, const Words& words) {
  if (words.size() != 1) fail_input("--{}: expected one value, got {}", name, words.size());
  return words.front();
}

OptionRow text_row(const char* name, std::string TrainOptions::*field, const char* help,
                   bool machine = false) {
  return {name,
          help,
          OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) { o.*field = one(name, words); },
          [=](const TrainOptions& o) { return Words{o.*field}; },
          machine};
}

OptionRow choice_row(const char* name, std::string TrainOptions::*field, Words choices,
                     const char* help) {
  return {name,
          help,
          OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            const std::string& value = one(name, words);
            if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
              std::string list;
              for (const std::string& choice : choices) list += (list.empty() ? "" : ", ") + choice;
              const std::string_view meant = nearest(value, choices);
              fail_input("--{}: expected one of {}, got \"{}\"{}", name, list, printable(value),
                         meant.empty() ? "" : fmt::format(" (did you mean {}?)", meant));
            }
            o.*field = value;
          },
          [=](const TrainOptions& o) { return Words{o.*field}; },
          false};
}

OptionRow integer_row(const char* name, int64_t TrainOptions::*field, int64_t least,
                      const char* help, bool machine = false) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  return {name,
          help,
          OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            o.*field = parse_number<int64_t>(flag(name), one(name, words), least, kMost);
          },
          [=](const TrainOptions& o) { return Words{fmt::format("{}", o.*field)}; },
          machine};
}

OptionRow number_row(const char* name, double TrainOptions::*field, double least, double most,
                     const char* help, bool machine = false) {
  return {name,
          help,
          OptionRow::kValue,
          [=](TrainOptions& o, const Words& words) {
            o.*field = parse_number<double>(flag(name), one(name, words), least, most);
          },
          [=](const TrainOptions& o) { return Words{number_text(o.*field)}; },
          machine};
}

OptionRow flag_row(const char* name, bool TrainOptions::*field, const char* help,
                   bool machine = false) {
  return {name,
          help,
          OptionRow::kFlag,
          [=](TrainOptions& o, const Words& words) {
            const std::string value = words.empty() ? "true" : one(name, words);
            if (value != "true" && value != "false")
              fail_input("--{}: expected true or false, got \"{}\"", name, printable(value));
            o.*field = value == "true";
          },
          [=](const TrainOptions& o) { return Words{o.*field ? "true" : "false"}; },
          machine};
}

// Values may be given one by one or joined by commas where `commas` says so (names have none, paths
// may).
OptionRow list_row(const char* name, Words TrainOptions::*field, bool commas, const char* help) {
  return {name,
          help,
          OptionRow::kList,
          [=](TrainOptions& o, const Words& words) {
            (o.*field).clear();
            for (const std::string& word : words) {
              size_t begin = 0;
              while (commas && word.find(',', begin) != std::string::npos) {
                const size_t end = word.find(',', begin);
                (o.*field).push_back(word.substr(begin, end - begin));
                begin = end + 1;
              }
              (o.*field).push_back(word.substr(begin));
            }
            for (const std::string& value : o.*field) {
              if (value.empty()) fail_input("--{}: an entry is empty", name);
            }
          },
          [=](const TrainOptions& o) { return o.*field; },
          false};
}

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

OptionRow of_data(OptionRow row) {
  row.of_data = true;
  return row;
}

Words formats() {
  Words names = {"auto"};
  names.insert(names.end(), document_formats().begin(), document_formats().end());
  return names;
}

std::vector<OptionRow> make_rows() {
  using O = TrainOptions;
  constexpr double kBig = 1e9;
  return {
      text_row("model", &O::model, "Model folder in Hugging Face layout"),
      list_row("data", &O::data, false,
               "Training files: .txt, .jsonl, .json, .csv or .parquet, each also as .gz or .zst"),
      text_row("out", &O::out, "Run folder: created, or empty, or --force", true),
      flag_row("force", &O::force, "Overwrite what an earlier run left in the run folder", true),
      choice_row("method", &O::method, {"lora", "full"},
                 "What is trained: a low-rank adapter, or every weight"),
      text_row("adapter", &O::adapter,
               "Adapter folder to go on from; its own kind, rank and targets count"),
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
      choice_row(
          "precision", &O::precision, {"fp32", "bf16", "fp16", "bf16-mixed", "fp16-mixed"},
          "Type of activations, and of frozen matrices that are wider; sums, trained weights and "
          "optimizer are fp32 always"),
      choice_row("optimizer", &O::optimizer, {"adamw", "sgd"}, "Update rule"),
      number_row("lr", &O::lr, 0, 1e3,
                 "Peak learning rate (default: 2e-4 for lora, 2e-5 for full)"),
      number_row("weight-decay", &O::weight_decay, 0, 1e3,
                 "Decoupled decay of matrices (norms and biases have none)"),
      number_row("beta1", &O::beta1, 0, 0.999999, "AdamW: decay of the first moment"),
      number_row("beta2", &O::beta2, 0, 0.9999999, "AdamW: decay of the second moment"),
      number_row("eps", &O::eps, 0, 1, "AdamW: added to the denominator"),
      number_row("momentum", &O::momentum, 0, 0.999999, "SGD: momentum"),
      choice_row("schedule", &O::schedule, {"cosine", "linear", "constant"},
                 "Learning rate after the warm-up"),
      number_row("warmup", &O::warmup, 0, kBig, "Warm-up: steps, or below 1 a share of all steps"),
      number_row("clip", &O::clip, 0, kBig, "Largest gradient norm (0: no clipping)"),
      integer_row("batch", &O::batch, 1, "Sequences an optimizer step, over all ranks"),
      integer_row("micro-batch", &O::micro_batch, 0,
                  "Sequences a forward pass (0: about 2048 tokens)"),
      integer_row("seq-len", &O::seq_len, 0,
                  "Tokens a sequence (0: the model's positions, at most 1024)"),
      number_row("epochs", &O::epochs, 0, kBig, "Passes over the data"),
      integer_row("steps", &O::steps, 0, "Optimizer steps (0: by --epochs)"),
      choice_row("packing", &O::packing, {"document", "concat", "none"},
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
      of_data(
          text_row("chat-template", &O::chat_template,
                   "What writes conversations: a built-in name, a Jinja file, or none (default: "
                   "the model's own)")),
      of_data(text_row("system", &O::system, "System message for conversations that have none")),
      of_data(text_row("date", &O::date,
                       "Today's date for chat templates that write it: 2024-07-26 (default: the "
                       "clock's)")),
      of_data(
          choice_row("train-on", &O::train_on, {"all", "last", "everything"},
                     "What is scored of conversations, and of prompts and answers: all that the "
                     "assistant says, its last turn, or prompts too")),
      of_data(choice_row("overlong", &O::overlong, {"cut", "drop", "error"},
                         "Samples (not texts) longer than --seq-len: cut at the end, left out, or "
                         "an error")),
      of_data(flag_row("skip-bad", &O::skip_bad,
                       "Pass over records that cannot be read, and count them")),
      list_row("val", &O::val, false, "Validation files"),
      number_row("val-split", &O::val_split, 0, 0.9, "Share of the data held out for validation"),
      integer_row("eval-every", &O::eval_every, 0, "Steps between validations (0: ten a run)"),
      integer_row("early-stop", &O::early_stop, 0,
                  "Stop after so many validations without improvement (0: never)"),
      flag_row("checkpoint-activations", &O::checkpoint_activations,
               "Recompute each block in backward: less memory"),
      integer_row("save-every", &O::save_every, 0, "Steps between checkpoints (0: at the end only)",
                  true),
      integer_row("keep", &O::keep, 1, "Checkpoints kept", true),
      text_row("resume", &O::resume,
               "auto: go on from the newest good checkpoint; or a checkpoint folder", true),
      text_row("device", &O::device,
               "Where to compute: cpu, cuda, cuda:N, or auto: a card where there is one"),
      text_row("parallel", &O::parallel,
               "Mesh of ranks, e.g. dp=4 (default: all ranks data-parallel)", true),
      integer_row("threads", &O::threads, 0, "Threads a rank (0: its share of the machine)", true),
      number_row(
          "timeout", &O::timeout, 1, 1e6,
          "Seconds after which a rank that does not answer is given up; one that computes is "
          "waited for",
          true),
      integer_row("seed", &O::seed, 0, "Seed of all random numbers"),
      integer_row("log-every", &O::log_every, 1, "Steps between lines of progress", true),
      flag_row("show-sample", &O::show_sample,
               "Print the first sample, also where stderr is no terminal", true),
      flag_row("quiet", &O::quiet, "Errors only", true),
  };
}

std::string normalized(std::string key) {
  std::replace(key.begin(), key.end(), '_', '-');
  return key;
}

Words words_of(const YAML::Node& node, bool list, const std::string& where) {
  if (node.IsNull()) return {};
  if (node.IsScalar()) return {node.Scalar()};
  Words words;
  if (node.IsMap() && list) {  // rank_pattern: {q_proj: 16}
    for (const auto& pair : node) {
      if (!pair.first.IsScalar() || !pair.second.IsScalar())
        fail_input("{}: expected names with plain values", where);
      words.push_back(pair.first.Scalar() + "=" + pair.second.Scalar());
    }
    return words;
  }
  if (!node.IsSequence()) fail_input("{}: expected a value or a list", where);
  for (const YAML::Node& item : node) {
    if (!item.IsScalar()) fail_input("{}: expected a list of plain values", where);
    words.push_back(item.Scalar());
  }
  return words;
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

void read_config_file(const std::filesystem::path& path, TrainOptions& options) {
  const std::string text = read_text(path, int64_t{1} << 20);
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    fail_input("{}:{}:{}: invalid YAML: {}", shown(path), e.mark.line + 1, e.mark.column + 1,
               printable(e.msg));
  }
  if (!root.IsMap()) fail_input("{}: expected lines of \"name: value\"", shown(path));
  Words known;
  for (const OptionRow& row : option_rows()) known.push_back(row.name);
  std::set<std::string> seen;
  for (const auto& pair : root) {
    const std::string key = normalized(pair.first.Scalar());
    const std::string where = fmt::format("{}:{}", shown(path), pair.first.Mark().line + 1);
    const auto row = std::find_if(option_rows().begin(), option_rows().end(),
                                  [&](const OptionRow& r) { return key == r.name; });
    if (row == option_rows().end()) {
      const std::string_view meant = nearest(key, known);
      fail_input("{}: unknown name \"{}\"{}", where, printable(key),
                 meant.empty() ? "" : fmt::format(" (did you mean {}?)", meant));
    }
    if (!seen.insert(key).second) fail_input("{}: \"{}\" is given twice", where, printable(key));
    const Words words = words_of(pair.second, row->kind == OptionRow::kList, where);
    if (words.empty() && row->kind != OptionRow::kList)
      continue;  // "name:" alone keeps the default
    try {
      row->set(options, words);
    } catch (const Error& e) {
      fail_input("{}: {}", where, e.what());
    }
  }
}

std::string config_text(const TrainOptions& options) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const OptionRow& row : option_rows()) {
    const Words words = row.get(options);
    out << YAML::Key << row.name << YAML::Value;
    if (row.kind == OptionRow::kList) {
      out << YAML::Flow << words;
    } else if (words.front().empty()) {
      out << YAML::Null;
    } else {
      out << words.front();
    }
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
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
  if (o.micro_batch > o.batch)
    fail_input("--micro-batch: {} is more than --batch {}", o.micro_batch, o.batch);
  if (o.steps == 0 && o.epochs == 0) fail_input("--epochs: expected more than 0, or --steps");
  check_data_options(o);
  if (!o.val.empty() && o.val_split > 0) fail_input("--val-split: not together with --val");
  if (o.early_stop > 0 && o.val.empty() && o.val_split == 0)
    fail_input("--early-stop: needs --val or --val-split");
  if (!o.resume.empty() && o.force) fail_input("--resume: not together with --force");
  if (o.dora && o.lora_bias) fail_input("--lora-bias: not together with --dora");
  if (o.method == "full") {
    if (!o.adapter.empty()) fail_input("--adapter: not together with --method full");
    if (o.dora) fail_input("--dora: not together with --method full");
    if (!o.modules_to_save.empty())
      fail_input("--modules-to-save: not together with --method full");
  }
}

}  // namespace tenon
