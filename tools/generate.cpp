// SPDX-License-Identifier: Apache-2.0
// tenon generate: continues a prompt; the text goes to stdout as it comes. Of a file of prompts,
// each continuation is one line: a JSON string, so that a newline inside it does not break the
// line.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/parallel_for.h"
#include "models/generate.h"
#include "models/open.h"
#include "models/weight_check.h"
#include "text/chat/chat_template.h"
#include "text/data/chat_tokens.h"
#include "text/data/document_tokens.h"
#include "text/tokenizer/stop_text.h"
#include "text/tokenizer/tokenizer.h"
#include "tools/command.h"
#include "tools/sampling_flags.h"
#include "train/data.h"
#include "train/job.h"

namespace tenon {
namespace {

struct GenerateOptions {
  std::string model, adapter, prompt, prompts;
  std::vector<std::string> stop;
  Compute compute;
  std::optional<SamplingFlags> sampling;
  int64_t max_tokens = 128, batch = GenerationOptions().batch;
  bool ids = false, chat = false;
  std::string chat_template, system;
  int threads = 0;
};

// A text to continue, and where it stands, for messages.
struct Asked {
  std::string text, where;
  uint64_t number = 0;
};

// The records of a JSONL file that have a "prompt"; empty lines are passed over but count.
std::vector<Asked> read_prompts(const std::string& file) {
  std::vector<Asked> asked;
  const std::string text = read_text(file, int64_t{1} << 30);
  uint64_t number = 0;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string where = fmt::format("{}: line {}", shown(file), number + 1);
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.empty()) continue;
    asked.push_back({JsonObject(parse_json(line, where), where).text("prompt"), where, number});
  }
  return asked;
}

// The ids of a conversation in which the user said `text`, up to where the model answers. What the
// user said is plain text: names of special tokens in it are not those tokens.
std::vector<int32_t> chat_ids(const std::string& text, const std::string& system,
                              const ChatTemplate& chat, const Tokenizer& tokenizer) {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  messages.push_back({{"role", "user"}, {"content", text}});
  return chat_tokens(messages, nullptr, chat, tokenizer, true, true).ids;
}

// The ids of a prompt that is continued as it is, behind what the tokenizer's files put before a text.
std::vector<int32_t> plain_ids(const std::string& text, const Tokenizer& tokenizer) {
  Document document;
  document.pieces.push_back({text});
  DocumentTokens tokens;
  tokenize_document(document, tokenizer, Framing::kPrefix, tokens);
  return tokens.ids;
}

Prompt prompt_of(const Asked& asked, const Tokenizer& tokenizer, const Model& model,
                 const ChatTemplate* chat, const std::string& system) {
  Prompt prompt{chat != nullptr ? chat_ids(asked.text, system, *chat, tokenizer)
                                : plain_ids(asked.text, tokenizer),
                asked.number};
  if (prompt.ids.empty() && tokenizer.bos_id()) prompt.ids.push_back(*tokenizer.bos_id());
  if (prompt.ids.empty()) fail_input("{}: expected some text", asked.where);
  check_tokens(prompt.ids, tokenizer, model.vocabulary(), asked.where);
  if (std::ssize(prompt.ids) >= model.max_positions()) {
    fail_input("{}: {} tokens, but the model has {}", asked.where, prompt.ids.size(),
               model.positions_text());
  }
  return prompt;
}

void put(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    fail(Exit::kIo, "stdout: cannot be written");
}

// What is said of one prompt.
struct Speech {
  StoppedDecoder decoder;
  std::string text;  // that is not printed yet
  bool done = false;
};

// Prints what is generated: one text as it comes, or a line for each, in the order of the prompts.
class Speaker {
 public:
  // `stop`: texts that end what is said.
  Speaker(const Tokenizer& tokenizer, const GenerateOptions& options,
          const std::vector<std::string>& stop, size_t prompts)
      : lines_(options.ids || !options.prompts.empty()), ids_(options.ids) {
    for (size_t i = 0; i < prompts; ++i)
      speeches_.push_back({StoppedDecoder(tokenizer, stop), {}, false});
  }

  GenerationEvents events() {
    return {.on_token = [this](size_t i, int32_t id) { return hear(speeches_[i], id); },
            .on_done = [this](size_t i, const Generated& text) { end(speeches_[i], text); }};
  }

  void note_full_contexts() const {
    if (full_ > 0) std::fprintf(stderr, "tenon: note: the model's context is full\n");
    if (full_ > 1) std::fprintf(stderr, "tenon: note: so it was for %lld prompts\n", full_);
  }

 private:
  bool hear(Speech& speech, int32_t id) {
    say(speech, speech.decoder.push(id));
    return !speech.decoder.stopped();
  }

  void say(Speech& speech, const std::string& text) {
    if (lines_) {
      speech.text += text;
    } else {
      put(text);
    }
  }

  void end(Speech& speech, const Generated& generated) {
    say(speech, speech.decoder.finish());
    full_ += generated.reason == StopReason::kContextFull;
    speech.done = true;
    if (!lines_) return put("\n");
    const nlohmann::json line =
        ids_ ? nlohmann::json(generated.ids) : nlohmann::json(std::move(speech.text));
    speech.text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    for (; next_ < speeches_.size() && speeches_[next_].done; ++next_)
      put(std::exchange(speeches_[next_].text, {}));
  }

  bool lines_, ids_;
  std::vector<Speech> speeches_;
  size_t next_ = 0;  // the first that is not printed
  long long full_ = 0;
};

// The template that writes the prompts; null where they are continued as they are.
std::shared_ptr<const ChatTemplate> chat_of(const GenerateOptions& options) {
  if (!options.chat && !options.system.empty()) fail_input("--system: goes with --chat");
  if (!options.chat && !options.chat_template.empty())
    fail_input("--chat-template: goes with --chat");
  if (!options.chat) return nullptr;
  DataOptions reading;
  reading.chat_template = options.chat_template;
  std::shared_ptr<const ChatTemplate> chat = chat_template(reading, options.model, options.adapter);
  if (chat == nullptr)
    fail_input("--chat: {} has no chat template; name one with --chat-template",
               shown(options.model));
  return chat;
}

int run_generate(const GenerateOptions& options) {
  if (options.threads > 0) set_thread_count(options.threads);
  if (options.prompt.empty() == options.prompts.empty())
    fail_input("expected one of --prompt TEXT and --prompts FILE");
  for (const std::string& word : options.stop) {
    if (word.empty()) fail_input("--stop: expected some text");
  }
  const Device device = options.compute.open();
  std::unique_ptr<Tokenizer> tokenizer;
  TextEnds ends;
  GenerationOptions generation{
      .max_tokens = options.max_tokens, .dtype = options.compute.dtype(), .batch = options.batch};
  std::vector<Prompt> prompts;
  Opening opening{.model = options.model,
                  .device = device,
                  .activations = options.compute.dtype(),
                  .stream = options.compute.stream(),
                  .quantization = options.compute.quantization(),
                  .adapt = frozen_adapter(options.adapter)};
  // What is asked is looked at before gigabytes are.
  opening.check = [&](const Model& shapes) {
    tokenizer = Tokenizer::load(options.model);
    say_tokenizer_note(*tokenizer);
    const std::shared_ptr<const ChatTemplate> chat = chat_of(options);
    ends = text_ends(options.model, *tokenizer, shapes.vocabulary(), chat.get());
    generation.end_tokens = ends.tokens;
    generation.sampling = options.sampling->resolve(options.model);
    const std::vector<Asked> asked = options.prompts.empty()
                                         ? std::vector<Asked>{{options.prompt, "--prompt", 0}}
                                         : read_prompts(options.prompts);
    for (const Asked& each : asked)
      prompts.push_back(prompt_of(each, *tokenizer, shapes, chat.get(), options.system));
  };
  const std::unique_ptr<Model> model = open_model(opening).model;
  ends.texts.insert(ends.texts.end(), options.stop.begin(), options.stop.end());
  Speaker speaker(*tokenizer, options, ends.texts, prompts.size());
  naming_weights(*model, options.model, options.adapter,
                 [&] { generate_batch(*model, prompts, generation, speaker.events()); });
  speaker.note_full_contexts();
  return 0;
}

}  // namespace

Command add_generate(const Flags& program) {
  auto options = std::make_shared<GenerateOptions>();
  const Flags flags = program.command("generate", "Continue a prompt");
  flags.word("--model", options->model, "Model folder", Flags::kRequired);
  flags.word("--adapter", options->adapter, "PEFT adapter folder");
  flags.word("--prompt", options->prompt, "Text to continue");
  flags.word("--prompts", options->prompts,
             "JSONL file with a \"prompt\" a line: one JSON string a line comes out");
  flags.number<int64_t>("--max-tokens", options->max_tokens, 1, 1 << 24, "Most tokens to add");
  options->sampling.emplace(flags);
  flags.words("--stop", options->stop,
              "End before this text (may be repeated; its tokens stay with --ids)");
  flags.number<int64_t>("--batch", options->batch, 1, 1024,
                        "Prompts of a file that are continued at a time");
  flags.flag("--chat", options->chat,
             "The prompt is what a user says: the model's chat template writes it");
  flags.word("--chat-template", options->chat_template,
             "With --chat: the template, by name or file");
  flags.word("--system", options->system, "With --chat: what the system says first");
  flags.flag("--ids", options->ids, "Print token ids as a JSON array instead of text");
  add_compute(flags, options->compute);
  add_threads(flags, options->threads);
  return {flags, [options] { return run_generate(*options); }};
}

}  // namespace tenon
