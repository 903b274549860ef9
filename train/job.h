// SPDX-License-Identifier: Apache-2.0
// What every rank of a fine-tuning job reads for itself: the model with what is trained in it, the
// tokenizer, and the data as packed rows.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "models/adapter.h"
#include "models/weights.h"
#include "text/chat/end_of_turn.h"
#include "text/data/packing.h"
#include "text/tokenizer/tokenizer.h"
#include "train/checkpoint.h"
#include "train/identity.h"
#include "train/model_files.h"
#include "train/token_cache.h"
#include "train/update_rule.h"

namespace tenon {

struct Job {
  TrainOptions options;  // resolved: what was left open is what it means here
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  LoadedWeights weights;
  LoraOptions lora;              // of the adapter that is trained
  int64_t trained = 0, all = 0;  // parameters
  std::optional<PackedRows> train, val;
  std::string data_kind;            // what the training files hold, for the log
  std::vector<std::string> notes;   // on what they hold, for the log
  std::optional<TokenFile> tokens;  // of the training files, and the first document to train on
  DocumentSpan first_document{};
  TokenDigests digests;
  Manner manner;                  // in which the data is written
  std::optional<EndOfTurn> turn;  // where the data holds conversations: how answers end in them

  bool full() const { return options.method == "full"; }
  // Writes the adapter, or the model that was trained as a whole, into `folder`.
  void write_weights(const std::filesystem::path& folder) const;
  // The same with all that inference needs beside it; `state` has the figures of its card.
  void write_result(const std::filesystem::path& folder, const TrainerState& state) const;
};

// The model with its weights on `device` and the adapter where one is trained; options are resolved.
// `check` is called between the config and the weights. A model that is a config.json is opened
// without weights, in dry runs only.
void open_job(Job& job, const TrainOptions& options, Device device,
              const std::function<void()>& check = {});

// The same with the tokenizer, read here unless it is given; weights are looked at where that takes no
// time.
Job read_model(const TrainOptions& options, Device device,
               std::unique_ptr<Tokenizer> tokenizer = nullptr);

// `folder`: where state that --offload moves out of memory lies in a nameless file.
OptimizerOptions optimizer_options(const TrainOptions& options,
                                   const std::filesystem::path& folder);

// The rows to train on and those held out.
void read_data(TokenCache& cache, Job& job);

// Throws Error(kInput) when the model has no embedding row for a token. A tokenizer may have more
// entries than the model rows: what counts is what is used. `where` begins the message.
void check_token(int32_t id, const Tokenizer& tokenizer, int64_t rows, const std::string& where);
// The same for the largest of some ids.
void check_tokens(std::span<const int32_t> ids, const Tokenizer& tokenizer, int64_t rows,
                  const std::string& where);

}  // namespace tenon
