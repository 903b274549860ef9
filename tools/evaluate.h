// SPDX-License-Identifier: Apache-2.0
// The parts of `tenon evaluate`: scores of a file of pairs, the loss of a model, its answers.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/generate.h"
#include "text/scores/scores.h"
#include "text/tokenizer/tokenizer.h"
#include "tools/command.h"
#include "tools/in_world.h"
#include "tools/sampling_flags.h"
#include "train/console.h"
#include "train/job.h"
#include "train/options.h"

namespace tenon {

struct EvaluateOptions {
  std::string model, adapter, score, samples, task = "perplexity", packing = "document";
  Compute compute;
  std::vector<std::string> data;
  int64_t seq_len = 0, micro_batch = 0;
  int64_t stride = 0, limit = 0;  // 0: none
  GenerationOptions generation;
  std::optional<SamplingFlags> sampling;
  TrainOptions reading;  // its DataOptions
  bool compare_base = false, force = false;
  int threads = 0;
};

// What is printed, in order.
using Figures = nlohmann::ordered_json;

// BLEU with its signature, ROUGE and exact matches.
Figures score_figures(const ScoreSums& sums);
// For people who score another script than ROUGE's words have.
void warn_of_wordless(const ScoreSums& sums, Console& console);

// The figures of a JSONL file with "hypothesis" and "reference" a line. Throws Error(kInput) with
// file and line.
Figures score_file(const std::string& path, Console& console);

// What is asked of a model once the data is read; `name` tells models apart in messages. A
// collective call; the figures are rank 0's.
using EvaluationTask = std::function<Figures(const Model& model, const std::string& name)>;

struct EvaluationSetting {
  const EvaluateOptions& options;
  int64_t positions = 0, rows = 0;  // of the models: the longest text; embedding rows
  std::string positions_text;       // the first, as a message says it
  GenerationOptions generation;     // end tokens included
  std::vector<std::string> stop;    // texts that end an answer
  const Tokenizer& tokenizer;
  Communicator& world;
  Console& console;
};
EvaluationTask loss_task(const EvaluationSetting& setting);
// What the setting refers to outlives the task.
EvaluationTask answer_task(const EvaluationSetting& setting);

// Two columns of figures and what changed between them.
std::string comparison_table(const Figures& base, const Figures& adapter);

}  // namespace tenon
