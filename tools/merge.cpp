// SPDX-License-Identifier: Apache-2.0
// tenon merge: adapters folded into their base, as a model of its own in Hugging Face layout.
#include "models/merge.h"

#include <cmath>
#include <cstdio>

#include "core/file.h"
#include "core/files.h"
#include "core/parallel_for.h"
#include "tools/command.h"
#include "tools/model_folder.h"
#include "train/model_card.h"
#include "train/model_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct MergeOptions {
  std::string model, dtype;
  std::vector<std::string> adapters;
  ModelOut out;
  int threads = 0;
};

// "FOLDER" or "FOLDER=WEIGHT"; a folder of that whole name goes first.
WeightedAdapter parse_adapter(const std::string& word) {
  const size_t equals = word.rfind('=');
  if (equals == std::string::npos || files::exists(word)) return {word, 1};
  return {word.substr(0, equals),
          parse_number<double>("--adapter " + word, word.substr(equals + 1), -1e6, 1e6)};
}

// How prompts are written for what the adapters make of the base: as for the adapter that has a
// template of its own. Several are no better than none.
struct Trained {
  Manner manner;
  fs::path adapter;  // "": the base's manner
};
Trained trained_manner(const fs::path& base, const std::vector<WeightedAdapter>& adapters) {
  Trained of_base, trained;
  of_base.manner.chat = trained.manner.chat = model_template(base);
  for (const WeightedAdapter& adapter : adapters) {
    std::optional<TemplateSource> own = model_template(adapter.folder);
    if (!own) continue;
    if (!trained.adapter.empty() && own->main.text != trained.manner.chat->main.text) {
      std::fprintf(stderr,
                   "tenon: warning: the adapters were trained with several chat templates; the "
                   "result has the base's\n");
      return of_base;
    }
    trained.manner.chat = std::move(own);
    trained.manner.given = true;
    trained.adapter = adapter.folder;
  }
  return trained;
}

// All that inference needs beside the weights.
void write_beside(const MergeOptions& options, const std::vector<WeightedAdapter>& adapters,
                  const Trained& trained, const fs::path& folder) {
  write_model_files(options.model, trained.manner, folder);
  const fs::path generation = trained.adapter / "generation_config.json";
  if (!trained.adapter.empty() && files::exists(generation))
    copy_files({generation}, trained.adapter, folder);
  ModelCard card{.base = options.model,
                 .adapter = false,
                 .chat = trained.manner.chat.has_value(),
                 .tags = {"merged", "lora", "tenon"},
                 .summary = "Adapters folded into their base by `tenon merge`."};
  for (const WeightedAdapter& adapter : adapters)
    card.method.emplace_back(fmt::format("`{}`", printable(adapter.folder.string())),
                             fmt::format("times {}", adapter.weight));
  write_model_card(card, folder);
}

int merge(const MergeOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  std::optional<DType> dtype;
  if (!options.dtype.empty()) dtype = parse_dtype(options.dtype, "--dtype");
  std::vector<WeightedAdapter> adapters;
  std::vector<fs::path> inputs = {options.model};
  for (const std::string& word : options.adapters) {
    adapters.push_back(parse_adapter(word));
    inputs.push_back(adapters.back().folder);
  }
  check_model_out(options.out, inputs);
  const Merge merged(options.model, adapters, dtype);
  const Trained trained = trained_manner(options.model, adapters);
  write_model_out(options.out, [&](const fs::path& folder) {
    write_beside(options, adapters, trained, folder);
    merged.write(folder, options.out.shard_bytes);
  });
  std::fprintf(stderr, "%s: %lld parameters, %zu adapter%s merged%s\n",
               shown(options.out.folder).c_str(), static_cast<long long>(merged.parameters()),
               adapters.size(), adapters.size() == 1 ? "" : "s",
               merged.unties_head() ? "; the head is no longer tied to the embedding" : "");
  return 0;
}

}  // namespace

Command add_merge(const Flags& program) {
  auto options = std::make_shared<MergeOptions>();
  const Flags flags =
      program.command("merge", "Fold adapters into their base: a model without adapters");
  flags.word("--model", options->model, "Model folder of the base", Flags::kRequired);
  flags.words("--adapter", options->adapters,
              "PEFT adapter folders, each with =WEIGHT if its change counts other than once",
              Flags::kRequired);
  add_model_out(flags, options->out);
  flags.word("--dtype", options->dtype, "fp32, bf16 or fp16 (default: as the base)");
  add_threads(flags, options->threads);
  return {flags, [options] { return merge(*options); }};
}

}  // namespace tenon
