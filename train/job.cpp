// SPDX-License-Identifier: Apache-2.0
#include "train/job.h"

#include <algorithm>

#include "core/error.h"
#include "text/data/token_file.h"
#include "train/data.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

TrainOptions resolve(TrainOptions options, const Model& model) {
  if (options.lr == 0) options.lr = options.method == "full" ? 2e-5 : 2e-4;
  if (options.seq_len == 0) options.seq_len = std::min<int64_t>(1024, model.max_positions());
  if (options.seq_len > model.max_positions()) {
    fail_input("--seq-len: {} tokens, but the model has {} positions", options.seq_len,
               model.max_positions());
  }
  if (options.method == "lora" && options.targets.empty()) {
    options.targets = model.default_targets();
  }
  return options;
}

// "NAME=NUMBER", the last = counts: names may be regular expressions.
template <class Number>
std::vector<std::pair<std::string, Number>> by_module(const std::string& flag,
                                                      const std::vector<std::string>& words,
                                                      Number least, Number most) {
  std::vector<std::pair<std::string, Number>> numbers;
  for (const std::string& word : words) {
    const size_t equals = word.rfind('=');
    if (equals == std::string::npos || equals == 0)
      fail_input("{}: expected NAME=NUMBER, got \"{}\"", flag, printable(word));
    numbers.emplace_back(word.substr(0, equals),
                         parse_number(flag, word.substr(equals + 1), least, most));
  }
  return numbers;
}

// Names go to `names`, one regular expression to `pattern`.
void names_or_pattern(const std::string& flag, const std::vector<std::string>& words,
                      std::vector<std::string>& names, std::string& pattern) {
  const auto is_pattern = [](const std::string& word) {
    return word.find_first_of("\\^$*+?()[]{}|") != std::string::npos;
  };
  if (std::none_of(words.begin(), words.end(), is_pattern)) {
    names = words;
  } else if (words.size() == 1) {
    pattern = words.front();
  } else {
    fail_input("{}: a regular expression stands alone and has no comma", flag);
  }
}

LoraOptions lora_of(const TrainOptions& o) {
  LoraOptions lora{.rank = o.rank,
                   .alpha = o.alpha,
                   .dropout = o.lora_dropout,
                   .rslora = o.rslora,
                   .layers_pattern = o.layers_pattern,
                   .ranks = by_module<int64_t>("--rank-pattern", o.rank_pattern, 1, 65536),
                   .alphas = by_module<double>("--alpha-pattern", o.alpha_pattern, 0, 1e9),
                   .dora = o.dora,
                   .lora_bias = o.lora_bias,
                   .bias = o.bias,
                   .modules_to_save = o.modules_to_save};
  names_or_pattern("--targets", o.targets, lora.targets, lora.target_pattern);
  names_or_pattern("--exclude-modules", o.exclude_modules, lora.exclude, lora.exclude_pattern);
  for (const std::string& word : o.layers)
    lora.layers.push_back(parse_number<int64_t>("--layers", word, 0, 1'000'000));
  if (!lora.layers.empty() && !lora.target_pattern.empty())
    fail_input("--layers: not together with a regular expression in --targets");
  return lora;
}

// Gives the model the adapter that is trained, fresh or read; the options are then what it is.
LoraOptions given_adapter(TrainOptions& options, Model& model) {
  if (options.adapter.empty()) {
    const LoraOptions lora = lora_of(options);
    attach_lora(model, lora, static_cast<uint64_t>(options.seed));
    return lora;
  }
  const LoraOptions lora = read_adapter(model, options.adapter, true);
  options.rank = lora.rank;
  options.alpha = lora.alpha;
  options.lora_dropout = lora.dropout;
  options.rslora = lora.rslora;
  options.dora = lora.dora;
  return lora;
}

TokenFile tokenized(const fs::path& cache, const std::vector<std::string>& files,
                    const TokenizeOptions& tokenizing, const Job& job) {
  const std::vector<fs::path> sources(files.begin(), files.end());
  fs::create_directories(cache.parent_path());
  TokenFile file = build_or_open(cache, sources, *job.tokenizer, tokenizing);
  check_token(file.largest_id(), *job.tokenizer, job.model->vocabulary(), shown(sources.front()));
  return file;
}

}  // namespace

void Job::write_result(const fs::path& folder) const {
  if (full()) {
    copy_model_files(options.model, folder);
    save_weights(*model, folder, weights.dtype);
  } else {
    write_adapter(*model, folder, lora, options.model);
  }
}

Job read_model(const TrainOptions& options, Device device) {
  Job job;
  job.model = build_model(options.model);
  job.options = resolve(options, *job.model);
  job.tokenizer = Tokenizer::load(options.model);
  job.model->visit_parameters(
      [&](const std::string&, Parameter& parameter) { parameter.trainable = job.full(); });
  job.weights = load_weights(*job.model, options.model);
  if (!job.full()) {
    job.lora = given_adapter(job.options, *job.model);
  }
  place(*job.model, device, activation_dtype(options.precision));
  job.trained = count_parameters(*job.model, [](const Parameter& p) { return p.trainable; });
  job.all = count_parameters(*job.model, [](const Parameter&) { return true; });
  return job;
}

void read_data(const RunFolder& folder, Job& job) {
  const TrainOptions& o = job.options;
  const PackingOptions packing{.mode = packing_mode(o.packing),
                               .seq_len = o.seq_len,
                               .overlong = overlong_mode(o.overlong),
                               .pad_id = job.tokenizer->eos_id().value_or(0)};
  TokenizeOptions tokenizing = tokenize_options(o, o.model);
  tokenizing.documents.note = [&job](const std::string& note) { job.notes.push_back(note); };
  const TokenFile file = tokenized(folder.cache("train.tokens"), o.data, tokenizing, job);
  job.data_kind = describe_data(o.data, tokenizing);
  job.tokens = file;
  const auto keep_first = [&](const std::vector<DocumentSpan>& documents) {
    if (!documents.empty()) job.first_document = documents.front();
  };
  if (o.val_split > 0) {
    const DocumentSplit split = split_documents(file, o.val_split, static_cast<uint64_t>(o.seed));
    job.train.emplace(file, split.train, packing);
    keep_first(split.train);
    job.val.emplace(file, split.validation, packing);
    return;
  }
  const std::vector<DocumentSpan> documents = all_documents(file);
  job.train.emplace(file, documents, packing);
  keep_first(documents);
  if (o.val.empty()) return;
  const TokenFile val = tokenized(folder.cache("val.tokens"), o.val, tokenizing, job);
  job.val.emplace(val, all_documents(val), packing);
}

void check_token(int32_t id, const Tokenizer& tokenizer, int64_t rows, const std::string& where) {
  if (id < rows) return;
  fail_input("{}: token {} (\"{}\") of {} has no embedding row: the model has {}", where, id,
             printable(std::string(tokenizer.token(id).value_or("?"))), tokenizer.file(), rows);
}

void check_tokens(std::span<const int32_t> ids, const Tokenizer& tokenizer, int64_t rows,
                  const std::string& where) {
  if (!ids.empty()) check_token(*std::max_element(ids.begin(), ids.end()), tokenizer, rows, where);
}

}  // namespace tenon
