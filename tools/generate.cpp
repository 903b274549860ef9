// SPDX-License-Identifier: Apache-2.0
// tenon generate: continues a prompt; the text goes to stdout as it comes. Of a file of prompts,
// each continuation is one line: a JSON string, so that a newline inside it does not break the
// line.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/parallel_for.h"
#include "models/adapter.h"
#include "models/generate.h"
#include "models/weights.h"
#include "text/tokenizer.h"
#include "tools/generation_flags.h"
#include "train/job.h"

namespace tenon {
namespace {

struct GenerateOptions {
  std::string model, adapter, prompt, prompts;
  Compute compute;
  GenerationOptions generation;
  bool ids = false;
  int threads = 0;
};

class Speaker {
 public:
  Speaker(const Model& model, const Tokenizer& tokenizer, const GenerateOptions& options)
      : model_(model),
        tokenizer_(tokenizer),
        options_(options),
        ends_(end_tokens(options.model, tokenizer, model.vocabulary())) {}

  // Prints the continuation as it comes.
  void say(const std::string& prompt) const {
    StreamDecoder decoder(tokenizer_, true);
    continue_prompt(prompt, "--prompt", 0, [&](int32_t id) {
      put(decoder.push(id));
      return true;
    });
    put(decoder.finish() + "\n");
  }

  // Prints one line: the continuation of prompt number `index` as a JSON string, or its ids as a
  // JSON array. `where` the prompt stands is for messages.
  void say_line(const std::string& prompt, const std::string& where, uint64_t index) const {
    const std::vector<int32_t> ids = continue_prompt(prompt, where, index, {});
    const nlohmann::json line =
        options_.ids ? nlohmann::json(ids) : nlohmann::json(tokenizer_.decode(ids, true));
    put(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }

 private:
  // The ids that follow the prompt.
  std::vector<int32_t> continue_prompt(const std::string& prompt, const std::string& where,
                                       uint64_t index,
                                       const std::function<bool(int32_t)>& on_token) const {
    std::vector<int32_t> ids = tokenizer_.encode(prompt);
    if (ids.empty() && tokenizer_.bos_id()) ids.push_back(*tokenizer_.bos_id());
    if (ids.empty()) fail_input("{}: expected some text", where);
    if (static_cast<int64_t>(ids.size()) >= model_.max_positions()) {
      fail_input("{}: {} tokens, but the model has {} positions", where, ids.size(),
                 model_.max_positions());
    }
    const auto prompt_tokens = static_cast<int64_t>(ids.size());
    const StopReason reason =
        generate(model_, ids, options_.generation.max_tokens, ends_, options_.generation.sampling,
                 options_.compute.dtype(), index, on_token);
    if (reason == StopReason::kContextFull)
      std::fprintf(stderr, "tenon: note: the model's context is full\n");
    return {ids.begin() + prompt_tokens, ids.end()};
  }

  static void put(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fflush(stdout) != 0) {
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
  if (options.prompt.empty() == options.prompts.empty())
    fail_input("expected one of --prompt TEXT and --prompts FILE");
  const Device device = options.compute.open();
  const std::unique_ptr<Model> model = build_model(options.model);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(options.model);
  check_vocabulary(*tokenizer, *model, options.model);
  load_weights(*model, options.model);
  if (!options.adapter.empty()) read_adapter(*model, options.adapter, false);
  place(*model, device, options.compute.dtype());
  const Speaker speaker(*model, *tokenizer, options);
  if (!options.prompt.empty()) {
    options.ids ? speaker.say_line(options.prompt, "--prompt", 0) : speaker.say(options.prompt);
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
    speaker.say_line(JsonObject(parse_json(line, where), where).text("prompt"), where, index);
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
  command->add_option("--prompts", options->prompts,
                      "JSONL file with a \"prompt\" a line: one JSON string a line comes out");
  add_generation(*command, options->generation);
  command->add_flag("--ids", options->ids, "Print token ids as a JSON array instead of text");
  add_compute(*command, options->compute);
  add_threads(*command, options->threads);
  return {command, [options] { return run_generate(*options); }};
}

}  // namespace tenon
