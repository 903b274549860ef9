// SPDX-License-Identifier: Apache-2.0
// tenon init: a model with random weights from a config.json, in Hugging Face layout. Training from
// scratch is this and `finetune --method full`.
#include <cstdio>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/parallel_for.h"
#include "models/weights.h"
#include "tools/command.h"
#include "train/checkpoint.h"
#include "train/model_files.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct InitOptions {
  std::string config, out, dtype = "fp32";
  uint64_t seed = 42;
  bool force = false;
  int threads = 0;
};

// The weights of the model that --force overwrites, shards included; nothing else that lies beside
// them.
void remove_weights(const fs::path& folder) {
  std::vector<fs::path> doomed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool shard = name.starts_with("model-") && name.ends_with(".safetensors");
    if (shard || name == "model.safetensors" || name == "model.safetensors.index.json")
      doomed.push_back(entry.path());
  }
  for (const fs::path& path : doomed) fs::remove(path);
}

int init(const InitOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  const DType dtype = parse_dtype(options.dtype, "--dtype");
  const fs::path config = options.config, out = options.out;
  const std::unique_ptr<Model> model = build_model(parse_json_file(config), shown(config));
  const bool filled = fs::exists(out) && (!fs::is_directory(out) || !fs::is_empty(out));
  if (filled && (!fs::is_directory(out) || !options.force)) {
    fail_input("--out {}: exists and is not empty (--force overwrites its model)", shown(out));
  }
  const fs::path source = config.has_parent_path() ? config.parent_path() : fs::path(".");
  draw_weights(*model, options.seed);
  const auto fill = [&](const fs::path& folder) {
    // The config's folder may hold the tokenizer: a model that can be trained at once.
    if (!fs::exists(folder / "config.json") || !fs::equivalent(source, folder))
      copy_files(model_files(source), source, folder);
    if (config.filename() != "config.json")
      write_text_atomic(folder / "config.json", read_text(config, kJsonFileBytes));
    save_weights(*model, folder, dtype);
  };
  if (filled) {
    remove_weights(out);
    fill(out);
  } else {
    const fs::path parent = fs::absolute(out).parent_path();
    std::error_code none;
    fs::create_directories(parent, none);
    if (none) fail_input("--out {}: cannot be created: {}", shown(out), none.message());
    replace_folder(out, fill);
  }
  const int64_t count = count_parameters(*model, [](const Parameter&) { return true; });
  std::fprintf(stderr, "%s: %s with %lld parameters in %s, seed %llu\n", shown(out).c_str(),
               model->family(), static_cast<long long>(count), name_of(dtype),
               static_cast<unsigned long long>(options.seed));
  return 0;
}

}  // namespace

Command add_init(CLI::App& app) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* command =
      app.add_subcommand("init", "Make a model with random weights from a config.json");
  command->add_option("--config", options->config, "config.json in Hugging Face layout")
      ->required();
  command
      ->add_option("--out", options->out,
                   "Folder of the new model; tokenizer files beside the config come along")
      ->required();
  command->add_option("--dtype", options->dtype, "fp32, bf16 or fp16")->capture_default_str();
  add_number<uint64_t>(*command, "--seed", options->seed, 0, std::numeric_limits<int64_t>::max(),
                       "Seed of the weights");
  command->add_flag("--force", options->force, "Overwrite what is there");
  add_threads(*command, options->threads);
  return {command, [options] { return init(*options); }};
}

}  // namespace tenon
