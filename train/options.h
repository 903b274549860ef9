// SPDX-License-Identifier: Apache-2.0
// Everything that `tenon finetune` can be told, once: name, default, help, and how text becomes a
// value. The command line, the --config file and the run folder's config.yaml are all made from the
// same table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tenon {

// How data files are read; commands other than finetune have these too.
struct DataOptions {
  std::string format = "auto";       // or one of document_formats()
  std::vector<std::string> columns;  // two names, or none
  std::string chat_template;         // a name or a file; "": the model's own; "none"
  std::string system, date;
  std::string train_on = "all", overlong = "cut";
  std::string special_in_text = "special";  // or "plain"
  bool skip_bad = false;
};

struct TrainOptions : DataOptions {
  std::string model, out, config;
  std::vector<std::string> data, val;
  bool force = false;

  std::string method = "lora";
  std::string adapter;  // a folder to go on from; "": a fresh one
  int64_t rank = 8;
  double alpha = 16;
  double lora_dropout = 0;
  bool rslora = false;
  std::vector<std::string> targets;  // empty: the family's usual ones
  bool dora = false, lora_bias = false;
  std::string bias = "none";
  std::vector<std::string> exclude_modules, modules_to_save, layers, layers_pattern;
  std::vector<std::string> rank_pattern, alpha_pattern;  // "q_proj=16"

  std::string weights = "auto", quantize = "none";
  bool double_quant = false;
  std::string precision = "fp32", device = "auto", parallel;
  std::string optimizer = "adamw", update = "after-backward";
  std::optional<double> lr;  // none: 2e-4 for lora, 2e-5 for full
  double weight_decay = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum = 0.9;
  std::string schedule = "cosine";
  double warmup = 0.03;                                 // below 1: a share of all steps; else steps
  double clip = 1.0;                                    // 0: off
  double loss_scale = 65536, loss_scale_backoff = 0.5;  // fp16
  int64_t loss_scale_growth = 2000;

  int64_t batch = 8;
  int64_t micro_batch = 0;  // 0: about 2048 tokens, or fewer where memory asks for it
  int64_t seq_len = 0;      // 0: the model's positions, at most 1024
  double epochs = 3;
  int64_t steps = 0;  // 0: by epochs
  std::string packing = "document", model_dropout = "off", shuffle = "on";

  double val_split = 0;
  int64_t eval_every = 0;                       // 0: ten times a run
  int64_t early_stop = 0;                       // evaluations without improvement; 0: off
  std::string checkpoint_activations = "auto";  // or none, all, every:K
  std::string memory = "auto";                  // "8GB"; auto: what the machine has
  std::string offload = "none";                 // or optimizer
  int64_t save_every = 200;
  int64_t keep = 2;
  std::string resume;  // "", "auto" or a checkpoint folder
  bool check_weights = false;
  int64_t threads = 0;  // 0: this rank's share of the machine
  double timeout = 60;
  int64_t seed = 42;
  int64_t log_every = 1;
  bool quiet = false, show_sample = false;
};

// What an option counts for where the ranks of a job, or a run and its checkpoint, are compared.
enum class Counts : uint8_t {
  kResult,   // it changes what is computed: a part of the run's identity
  kTokens,   // how data is read: the identity has the tokens that come of it
  kContent,  // where an input lies: what is there counts, and ranks may see it under other names
  kLength,   // how far a run goes: a resumed one may go further
  kJob,      // how the job works: ranks agree in it, and a resumed run may do otherwise
  kRank,     // each rank's own affair
};

// One option: how it is named, explained, set from text and written as text.
struct OptionRow {
  const char* name;  // "lora-dropout"
  const char* help;
  enum Kind { kValue, kFlag, kFlagOrValue, kList } kind;
  std::function<void(TrainOptions&, const std::vector<std::string>&)>
      set;  // throws Error(kInput) naming the option
  std::function<std::vector<std::string>(const TrainOptions&)> get;
  Counts counts = Counts::kResult;
  bool of_data = false;  // sets a field of DataOptions
  bool path = false;     // names files or folders
};
const std::vector<OptionRow>& option_rows();

// The whole of `text` as a number in least..most: decimal, finite, whatever the locale. `where`,
// such as the flag, begins the message of the Error(kInput) otherwise.
template <class Number>
Number parse_number(const std::string& where, const std::string& text, Number least, Number most);

// A row's values as one text: "a,b".
std::string value_text(const OptionRow& row, const TrainOptions& options);

// The files and folders that a run of these options reads while it writes; a config file has been
// read by then.
std::vector<std::filesystem::path> inputs_of(const TrainOptions& options);

// Sets what a YAML (or JSON) file gives. "~/" before a path is HOME. Unknown or repeated names are
// errors with file, line and the nearest name.
void read_config_file(const std::filesystem::path& path, TrainOptions& options);

// The resolved options as YAML, one a line, in the table's order: `--config` with it repeats the
// run.
std::string config_text(const TrainOptions& options);

// Checks that values fit each other and the world of `ranks`. Throws Error(kInput) naming the
// option.
void check_options(const TrainOptions& options);
// Of these, what needs neither data nor a run folder.
void check_training_options(const TrainOptions& options);
void check_data_options(const DataOptions& options);

}  // namespace tenon
