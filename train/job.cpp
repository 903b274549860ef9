// SPDX-License-Identifier: Apache-2.0
#include "train/job.h"

#include <algorithm>

#include "core/counting.h"
#include "core/error.h"
#include "core/files.h"
#include "models/open.h"
#include "models/weight_check.h"
#include "text/data/sources.h"
#include "text/data/token_file.h"
#include "train/choices.h"
#include "train/data.h"
#include "train/model_card.h"
#include "train/trainer.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

TrainOptions resolve(TrainOptions options, const Model& model) {
  if (!options.lr) options.lr = options.method == "full" ? 2e-5 : 2e-4;
  options.precision = name_in(kPrecisions, precision_of(options.precision));
  if (options.seq_len == 0) options.seq_len = std::min<int64_t>(1024, model.max_positions());
  if (options.seq_len > model.max_positions()) {
    fail_input("--seq-len: {} tokens, but the model has {}", options.seq_len,
               model.positions_text());
  }
  if (options.method != "full" && options.targets.empty()) {
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

std::vector<std::string> words_of(const std::vector<std::string>& names,
                                  const std::string& pattern) {
  return pattern.empty() ? names : std::vector{pattern};
}

template <class Number>
std::vector<std::string> words_of(const std::vector<std::pair<std::string, Number>>& numbers) {
  std::vector<std::string> words;
  for (const auto& [name, number] : numbers) words.push_back(fmt::format("{}={}", name, number));
  return words;
}

// The options as the adapter has them.
void take_over(const LoraOptions& lora, TrainOptions& o) {
  o.rank = lora.rank;
  o.alpha = lora.alpha;
  o.lora_dropout = lora.dropout;
  o.rslora = lora.rslora;
  o.targets = words_of(lora.targets, lora.target_pattern);
  o.exclude_modules = words_of(lora.exclude, lora.exclude_pattern);
  o.layers.clear();
  for (const int64_t layer : lora.layers) o.layers.push_back(std::to_string(layer));
  o.layers_pattern = lora.layers_pattern;
  o.rank_pattern = words_of(lora.ranks);
  o.alpha_pattern = words_of(lora.alphas);
  o.modules_to_save = lora.modules_to_save;
  o.bias = lora.bias;
  o.dora = lora.dora;
  o.lora_bias = lora.lora_bias;
}

// Gives the model the adapter that is trained, fresh or read; the options are then what it is.
LoraOptions given_adapter(TrainOptions& options, Model& model) {
  if (options.adapter.empty()) {
    const LoraOptions lora = lora_of(options);
    attach_lora(model, lora, static_cast<uint64_t>(options.seed));
    return lora;
  }
  const LoraOptions lora = read_adapter(model, options.adapter, true);
  take_over(lora, options);
  return lora;
}

// "--data a.jsonl, b.jsonl": what a user calls a token file.
std::string called(const std::string& flag, const std::vector<std::string>& files) {
  constexpr size_t kShown = 3;
  std::string text = flag;
  for (size_t i = 0; i < std::min(files.size(), kShown); ++i)
    text += (i == 0 ? " " : ", ") + shown(files[i]);
  return files.size() > kShown ? fmt::format("{} and {} more", text, files.size() - kShown) : text;
}

// The data of a flag: its token file, and how its documents become rows.
struct Tokenized {
  TokenFile file;
  PackingOptions packing;
};

Tokenized tokenized(TokenCache& cache, const std::string& name, const std::string& flag,
                    const std::vector<std::string>& files, const TokenizeOptions& tokenizing,
                    const Job& job) {
  const TrainOptions& o = job.options;
  const Tokenizer& tokenizer = *job.tokenizer;
  const std::vector<fs::path> sources(files.begin(), files.end());
  TokenFile file = cache.open(name, sources, tokenizer, tokenizing);
  file.call(called(flag, files));
  check_token(file.largest_id(), tokenizer, job.model->vocabulary(), shown(sources.front()));
  PackingOptions packing{.mode = packing_mode(o.packing),
                         .seq_len = o.seq_len,
                         .overlong = chosen(kOverlongs, "--overlong", o.overlong),
                         .pad_id = tokenizer.eos_id().value_or(0)};
  if (!is_token_file(sources.front())) {
    packing.place = [sources, &tokenizer, tokenizing](int64_t number) {
      return document_place(sources, tokenizer, tokenizing, number);
    };
  }
  return {std::move(file), std::move(packing)};
}

std::string digest_text(const TokenFile& file) { return fmt::format("{:016x}", file.digest()); }

std::string names_of_files(const std::vector<std::string>& files) {
  std::string names;
  for (const std::string& file : files)
    names += (names.empty() ? "`" : ", `") + printable(fs::path(file).filename().string()) + "`";
  return names;
}

ModelCard card_of(const Job& job, const TrainerState& state) {
  const TrainOptions& o = job.options;
  const PackingStatistics& s = job.train->statistics();
  ModelCard card{.base = o.model,
                 .adapter = !job.full(),
                 .chat = job.turn.has_value(),
                 .tags = {job.full() ? "fine-tuned" : "lora", "tenon"}};
  card.summary =
      fmt::format("{} with Tenon: {} of {} parameters were trained.",
                  job.full() ? "Fine-tuned" : "A low-rank adapter, trained", job.trained, job.all);
  if (job.turn && !job.turn->text.empty()) {
    card.summary += fmt::format(" An answer ends with `{}`{}.", printable(job.turn->text),
                                job.turn->id ? "" : ", which is no token of its own");
  }
  card.data = {{"trained on", names_of_files(o.data)},
               {"read as", job.data_kind},
               {"size", fmt::format("{} documents, {} tokens, {} of them scored", s.documents,
                                    s.tokens, s.scored)}};
  if (!o.val.empty()) card.data.emplace_back("validated on", names_of_files(o.val));
  if (o.val_split > 0) card.data.emplace_back("held out", fmt::format("{} of it", o.val_split));
  const auto add = [&](const std::string& name) {
    for (const OptionRow& row : option_rows()) {
      if (name == row.name) card.method.emplace_back(name, "`" + value_text(row, o) + "`");
    }
  };
  add("method");
  if (!job.full()) {
    for (const char* name : {"rank", "alpha", "lora-dropout", "targets"}) add(name);
  }
  for (const char* name : {"precision", "optimizer", "lr", "schedule", "weight-decay", "batch",
                           "seq-len", "packing", "train-on", "seed"})
    add(name);
  card.figures = {{"steps", std::to_string(state.step)},
                  {"tokens seen", std::to_string(state.tokens)},
                  {"loss", fmt::format("{:.4f} at first, {:.4f} at the end", state.first_loss,
                                       state.last_loss)}};
  if (state.best_step >= 0) {
    card.figures.emplace_back("lowest validation loss",
                              fmt::format("{:.4f} at step {}", state.best_val, state.best_step));
  }
  return card;
}

}  // namespace

void Job::write_weights(const fs::path& folder) const {
  if (full()) {
    save_weights(*model, folder, weights.dtype);
  } else {
    write_adapter(*model, folder, lora, options.model);
  }
}

void Job::write_result(const fs::path& folder, const TrainerState& state) const {
  full() ? write_model_files(options.model, manner, folder)
         : write_adapter_files(options.model, manner, folder);
  write_weights(folder);
  write_model_card(card_of(*this, state), folder);
}

void open_job(Job& job, const TrainOptions& options, Device device,
              const std::function<void()>& check) {
  job.options = options;
  if (job.options.method == "qlora") job.options.quantize = "nf4";
  Opening opening{
      .model = options.model,
      .unbacked = counting() != nullptr && files::is_file(options.model),
      .device = device,
      .activations = precision_of(options.precision).activations,
      .train_base = job.full(),
      .trained = precision_of(options.precision).weights,
      .stream = options.weights == "stream",
      .gradients = updates_in_backward(options) ? GradBuffer::kWhenUsed : GradBuffer::kNow,
      .quantization = quantization_of(job.options.quantize, options.double_quant)};
  opening.check = [&](Model& model) {
    job.options = resolve(job.options, model);
    if (check) check();
  };
  if (!job.full())
    opening.adapt = [&](Model& model) { job.lora = given_adapter(job.options, model); };
  OpenedModel opened = open_model(opening);
  job.model = std::move(opened.model);
  job.weights = std::move(opened.weights);
  if (job.full() && job.weights.quantized > 0)
    fail_input("--method full: the weights of {} are quantized, which only adapters train on",
               shown(options.model));
  job.trained = count_parameters(*job.model, [](const Parameter& p) { return p.trainable; });
  job.all = count_parameters(*job.model, [](const Parameter&) { return true; });
}

Job read_model(const TrainOptions& options, Device device, std::unique_ptr<Tokenizer> tokenizer) {
  Job job;
  open_job(job, options, device, [&] {
    job.tokenizer = tokenizer ? std::move(tokenizer) : Tokenizer::load(options.model);
    if (!job.tokenizer->note().empty()) job.notes.push_back(job.tokenizer->note());
  });
  // As much as is read in well under a second.
  if (options.check_weights || weight_bytes(*job.model) <= int64_t{2} << 30)
    check_finite(*job.model, options.model, options.adapter);
  return job;
}

OptimizerOptions optimizer_options(const TrainOptions& o, const fs::path& folder) {
  return {.rule = chosen(kOptimizers, "--optimizer", o.optimizer),
          .beta1 = o.beta1,
          .beta2 = o.beta2,
          .eps = o.eps,
          .momentum = o.momentum,
          .weight_decay = o.weight_decay,
          .seed = static_cast<uint64_t>(o.seed),
          .state_in = o.offload == "optimizer" ? FileMemory::create(folder) : nullptr};
}

void read_data(TokenCache& cache, Job& job) {
  const TrainOptions& o = job.options;
  TokenizeOptions tokenizing = tokenize_options(o, o.model, o.adapter);
  tokenizing.documents.note = [&job](const std::string& note) { job.notes.push_back(note); };
  const auto [file, packing] = tokenized(cache, "train.tokens", "--data", o.data, tokenizing, job);
  job.data_kind = describe_data(o.data, tokenizing);
  job.tokens = file;
  job.digests = {.tokenizer = job.tokenizer->fingerprint(), .train = digest_text(file)};
  std::vector<DocumentSpan> documents = all_documents(file);
  if (o.val_split > 0) {
    const DocumentSplit split = split_documents(file, o.val_split, static_cast<uint64_t>(o.seed));
    documents = split.train;
    job.val.emplace(file, split.validation, packing);
  }
  job.train.emplace(file, documents, packing);
  if (!documents.empty()) job.first_document = documents.front();
  job.manner.chat = template_source(o, o.model, o.adapter);
  job.manner.given =
      !o.chat_template.empty() || (!o.adapter.empty() && model_template(o.adapter).has_value());
  if (tokenizing.documents.chat_template && job.train->statistics().samples > 0) {
    job.turn = end_of_turn(*tokenizing.documents.chat_template, *job.tokenizer);
    if (job.turn) job.manner.end_of_turn = job.turn->id;
  }
  if (o.val.empty()) return;
  const Tokenized val = tokenized(cache, "val.tokens", "--val", o.val, tokenizing, job);
  job.digests.validation = digest_text(val.file);
  job.val.emplace(val.file, all_documents(val.file), val.packing);
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
