// SPDX-License-Identifier: Apache-2.0
// tenon generate: continues a prompt; the text goes to stdout as it comes.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <fstream>
#include <iostream>

#include "core/file.h"
#include "core/parallel_for.h"
#include "models/adapter.h"
#include "models/generate.h"
#include "models/weights.h"
#include "text/tokenizer.h"
#include "tools/command.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

struct GenerateOptions {
  std::string model, adapter, prompt, prompts, precision = "fp32";
  int64_t max_tokens = 128;
  SamplingOptions sampling;
  bool ids = false;
  int threads = 0;
};

// End tokens: generation_config.json, else config.json, else the tokenizer's.
std::vector<int32_t> end_tokens(const fs::path& folder, const Tokenizer& tokenizer, int64_t vocabulary) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!fs::exists(folder / name)) continue;
    const std::vector<int64_t> ids = JsonObject::read(folder / name).integers("eos_token_id", 0, vocabulary - 1);
    if (!ids.empty()) return {ids.begin(), ids.end()};
  }
  return tokenizer.eos_id() ? std::vector<int32_t>{*tokenizer.eos_id()} : std::vector<int32_t>{};
}

class Speaker {
 public:
  Speaker(const Model& model, const Tokenizer& tokenizer, const GenerateOptions& options)
      : model_(model), tokenizer_(tokenizer), options_(options), ends_(end_tokens(options.model, tokenizer, model.vocabulary())) {}

  // Prints the continuation of one prompt (number `index` of the run).
  void say(const std::string& prompt, uint64_t index) const {
    std::vector<int32_t> ids = tokenizer_.encode(prompt);
    if (ids.empty() && tokenizer_.bos_id()) ids.push_back(*tokenizer_.bos_id());
    if (ids.empty()) fail_input("--prompt: expected some text");
    if (static_cast<int64_t>(ids.size()) >= model_.max_positions()) {
      fail_input("--prompt: {} tokens, but the model has {} positions", ids.size(), model_.max_positions());
    }
    for (const int32_t id : ids) {
      if (id >= model_.vocabulary()) fail_input("--prompt: token {} is past the model's {} embedding rows", id, model_.vocabulary());
    }
    StreamDecoder decoder(tokenizer_, true);
    const size_t prompt_tokens = ids.size();
    const auto print = [&](int32_t id) {
      if (!options_.ids) put(decoder.push(id));
      return true;
    };
    const StopReason reason = generate(model_, ids, options_.max_tokens, ends_, options_.sampling,
                                       parse_dtype(options_.precision, "--precision"), index, print);
    if (options_.ids) {
      std::string text = "[";
      for (size_t i = prompt_tokens; i < ids.size(); ++i) text += fmt::format("{}{}", text.size() > 1 ? ", " : "", ids[i]);
      put(text + "]");
    } else {
      put(decoder.finish());
    }
    put("\n");
    if (reason == StopReason::kContextFull) std::fprintf(stderr, "tenon: note: the model's context is full\n");
  }

 private:
  static void put(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
      fail(Exit::kIo, "stdout: cannot be written");
    }
  }

  const Model& model_;
  const Tokenizer& tokenizer_;
  const GenerateOptions& options_;
  std::vector<int32_t> ends_;
};

int run_generate(const GenerateOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  if (options.prompt.empty() == options.prompts.empty()) fail_input("expected one of --prompt TEXT and --prompts FILE");
  parse_dtype(options.precision, "--precision");
  const std::unique_ptr<Model> model = build_model(options.model);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(options.model);
  load_weights(*model, options.model);
  if (!options.adapter.empty()) read_adapter(*model, options.adapter, false);
  const Speaker speaker(*model, *tokenizer, options);
  if (!options.prompt.empty()) {
    speaker.say(options.prompt, 0);
    return 0;
  }
  const std::string text = read_text(options.prompts, int64_t{1} << 30);
  uint64_t index = 0;
  for (size_t begin = 0; begin < text.size(); ++index) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string where = fmt::format("{}: line {}", shown(options.prompts), index + 1);
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty()) continue;
    speaker.say(JsonObject(parse_json(line, where), where).text("prompt"), index);
  }
  return 0;
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt");
  command->add_option("--model", options->model, "Model folder")->required();
  command->add_option("--adapter", options->adapter, "PEFT adapter folder");
  command->add_option("--prompt", options->prompt, "Text to continue");
  command->add_option("--prompts", options->prompts, "JSONL file with a \"prompt\" a line: one continuation a line");
  command->add_option("--max-tokens", options->max_tokens, "Most tokens to add")->check(CLI::Range(1, 1 << 24))->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0: greedy")->check(CLI::Range(0.0, 100.0))->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "Only the k likeliest (0: off)")->check(CLI::Range(0, 1 << 24))->capture_default_str();
  command->add_option("--top-p", options->sampling.top_p, "Only the likeliest with this mass (1: off)")->check(CLI::Range(0.0, 1.0))->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "Seed of the draws")->capture_default_str();
  command->add_flag("--ids", options->ids, "Print token ids as a JSON array instead of text");
  command->add_option("--precision", options->precision, "Activations in fp32, bf16 or fp16")->capture_default_str();
  add_threads(*command, options->threads);
  return {command, [options] { return run_generate(*options); }};
}

}  // namespace tenon
