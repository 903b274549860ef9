// SPDX-License-Identifier: Apache-2.0
// tenon init: a model with random weights from a config.json, in Hugging Face layout. Training from scratch is this and
// `finetune --method full`.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/parallel_for.h"
#include "models/weights.h"
#include "tools/command.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct InitOptions {
  std::string config, out, dtype = "fp32";
  uint64_t seed = 42;
  bool force = false;
  int threads = 0;
};

int init(const InitOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  const DType dtype = parse_dtype(options.dtype, "--dtype");
  const fs::path config = options.config, out = options.out;
  const std::unique_ptr<Model> model = build_model(parse_json_file(config), shown(config));
  if (fs::exists(out) && (!fs::is_directory(out) || (!fs::is_empty(out) && !options.force))) {
    fail_input("--out {}: exists and is not empty (--force overwrites its weights)", shown(out));
  }
  draw_weights(*model, options.seed);
  fs::create_directories(out);
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) fs::remove(out / name);
  // The config's folder may hold the tokenizer: a model that can be trained at once.
  const fs::path source = config.has_parent_path() ? config.parent_path() : fs::path(".");
  if (!fs::exists(out / "config.json") || !fs::equivalent(source, out)) copy_model_files(source, out);
  if (config.filename() != "config.json") write_text_atomic(out / "config.json", read_text(config, kJsonFileBytes));
  save_weights(*model, out, dtype);
  const int64_t count = count_parameters(*model, [](const Parameter&) { return true; });
  std::fprintf(stderr, "%s: %s with %lld parameters in %s, seed %llu\n", shown(out).c_str(), model->family(),
               static_cast<long long>(count), name_of(dtype), static_cast<unsigned long long>(options.seed));
  return 0;
}

}  // namespace

Command add_init(CLI::App& app) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* command = app.add_subcommand("init", "Make a model with random weights from a config.json");
  command->add_option("--config", options->config, "config.json in Hugging Face layout")->required();
  command->add_option("--out", options->out, "Folder of the new model; tokenizer files beside the config come along")->required();
  command->add_option("--dtype", options->dtype, "fp32, bf16 or fp16")->capture_default_str();
  command->add_option("--seed", options->seed, "Seed of the weights")->capture_default_str();
  command->add_flag("--force", options->force, "Overwrite what is there");
  add_threads(*command, options->threads);
  return {command, [options] { return init(*options); }};
}

}  // namespace tenon
