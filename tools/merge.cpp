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
  write_model_out(options.out,
                  [&](const fs::path& folder) { merged.write(folder, options.out.shard_bytes); });
  std::fprintf(stderr, "%s: %lld parameters, %zu adapter%s merged%s\n",
               shown(options.out.folder).c_str(), static_cast<long long>(merged.parameters()),
               adapters.size(), adapters.size() == 1 ? "" : "s",
               merged.unties_head() ? "; the head is no longer tied to the embedding" : "");
  return 0;
}

}  // namespace

Command add_merge(CLI::App& app) {
  auto options = std::make_shared<MergeOptions>();
  CLI::App* command =
      app.add_subcommand("merge", "Fold adapters into their base: a model without adapters");
  command->add_option("--model", options->model, "Model folder of the base")->required();
  command
      ->add_option("--adapter", options->adapters,
                   "PEFT adapter folders, each with =WEIGHT if its change counts other than once")
      ->required();
  add_model_out(*command, options->out);
  command->add_option("--dtype", options->dtype, "fp32, bf16 or fp16 (default: as the base)");
  add_threads(*command, options->threads);
  return {command, [options] { return merge(*options); }};
}

}  // namespace tenon
