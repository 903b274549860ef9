// SPDX-License-Identifier: Apache-2.0
// tenon tokenize: data files as a token file, or as one JSON array of ids a record on stdout; under
// mpirun the ranks share the work. tenon detokenize: such lines back as JSON strings.
#include <charconv>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "core/folders.h"
#include "core/json.h"
#include "core/output.h"
#include "text/data/sources.h"
#include "tools/command.h"
#include "tools/gather_parts.h"
#include "tools/in_world.h"
#include "tools/sampling_flags.h"
#include "train/data.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

void say(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }

struct TokenizeCommand {
  std::string model, out;
  std::vector<std::string> data;
  TrainOptions reading;  // its DataOptions
  bool ids = false, no_special = false, lines = false, force = false;
  int threads = 0;

  std::vector<fs::path> sources() const { return {data.begin(), data.end()}; }
  TokenizeOptions options() const {
    TokenizeOptions result = tokenize_options(reading, model);
    result.lines = lines;
    result.documents.note = say;
    return result;
  }
};

void put(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// Writes each document to stdout as a JSON array.
class IdPrinter {
 public:
  DocumentSink sink() {
    return {.append = [this](std::span<const int32_t> ids, bool) { append(ids); },
            .end_document =
                [this](bool) {
                  text_ += begun_ ? "]\n" : "[]\n";
                  begun_ = false;
                  if (text_.size() > kBufferBytes) flush();
                }};
  }
  void flush() {
    put(text_);
    text_.clear();
  }

 private:
  static constexpr size_t kBufferBytes = 1 << 18;

  void append(std::span<const int32_t> ids) {
    for (const int32_t id : ids) {
      char number[16];
      char* const end = std::to_chars(number, number + sizeof number, id).ptr;
      text_ += begun_ ? ',' : '[';
      text_.append(number, end);
      begun_ = true;
    }
    if (text_.size() > kBufferBytes) flush();
  }

  std::string text_;
  bool begun_ = false;
};

void say_special_tokens(const Tokenizer& tokenizer, const std::map<int32_t, int64_t>& counts) {
  if (counts.empty()) return;
  std::fprintf(stderr, "special tokens in the data: %s\n",
               special_tokens_text(tokenizer, counts).c_str());
}

void say_unread(const std::vector<std::string>& files, const TokenizeOptions& options) {
  const std::string text = describe_unread(files, options);
  if (!text.empty()) say(text);
}

int print_ids(const TokenizeCommand& command, const Tokenizer& tokenizer, World& world) {
  const std::vector<fs::path> sources = command.sources();
  const TokenizeOptions options = command.options();
  const Framing framing = command.no_special ? Framing::kNone : Framing::kPrompt;
  IdPrinter printer;
  Joiner joiner(tokenizer, framing, printer.sink());
  std::map<int32_t, int64_t> special;
  TextCheck check(sources, options.documents);
  gather_parts(
      world.communicator(),
      [&](Share share, const TakePart& take) {
        encode_data(sources, tokenizer, options, framing, share, take);
      },
      [&](const EncodedPart& part) {
        check.take(part.source, part.faults);
        joiner.take(part);
        for (const auto& [id, count] : part.special) special[id] += count;
      });
  check.finish();
  printer.flush();
  say_special_tokens(tokenizer, special);
  if (world.rank() == 0) say_unread(command.data, options);
  return 0;
}

void check_out(const TokenizeCommand& command) {
  Output output{.flag = "--out", .path = command.out, .force = command.force};
  output.inputs = command.sources();
  output.inputs.insert(output.inputs.end(), {command.model, command.reading.chat_template});
  check_output_file(output, "token file", is_token_file);
}

int write_file(const TokenizeCommand& command, const Tokenizer& tokenizer, World& world) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<fs::path> sources = command.sources();
  const TokenizeOptions options = command.options();
  const TokenFileKey key = token_file_key(sources, tokenizer, options);
  TextCheck check(sources, options.documents);
  std::optional<TokenFileWriter> writer;
  std::optional<TokenAppender> appender;
  if (world.rank() == 0) {
    remove_abandoned(command.out);
    writer.emplace(command.out, key, tokenizer.vocabulary_size());
    appender.emplace(tokenizer, options, *writer);
  }
  gather_parts(
      world.communicator(),
      [&](Share share, const TakePart& take) {
        encode_data(sources, tokenizer, options, training_framing(options), share, take);
      },
      [&](const EncodedPart& part) {
        check.take(part.source, part.faults);
        appender->take(part);
      });
  if (!writer) return 0;
  check.finish();
  finish_token_file(sources, tokenizer, options, key, *writer);
  say_special_tokens(tokenizer, writer->special_tokens());
  say_unread(command.data, options);
  int64_t bytes = 0;
  for (const fs::path& source : sources) bytes += files::size(source);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr, "%s: %lld tokens in %lld documents; %.1f MB in %.2f s\n",
               shown(command.out).c_str(), static_cast<long long>(writer->tokens()),
               static_cast<long long>(writer->documents()), static_cast<double>(bytes) / 1e6,
               seconds);
  return 0;
}

int run_detokenize(const std::string& model) {
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(model);
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    const Json json = parse_json(line, fmt::format("stdin, line {}", number));
    const auto is_id = [](const Json& id) {
      return id.is_number_integer() && id >= 0 && id <= INT32_MAX;
    };
    if (!json.is_array() || !std::all_of(json.begin(), json.end(), is_id)) {
      fail_input("stdin, line {}: expected a JSON array of ids, got {}", number,
                 printable(line, 80));
    }
    const nlohmann::json text = tokenizer->decode(json.get<std::vector<int32_t>>());
    put(text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  return 0;
}

}  // namespace

Command add_tokenize(const Flags& program) {
  auto options = std::make_shared<TokenizeCommand>();
  const Flags flags = program.command(
      "tokenize", "Data as a token file for finetune and evaluate, or as ids on stdout");
  flags.word("--model", options->model, "Model folder", Flags::kRequired);
  flags.words("--data", options->data, "Files: .txt, .jsonl, ...", Flags::kRequired);
  flags.word("--out", options->out, "Token file to write");
  flags.flag("--force", options->force, "Replace the token file of --out");
  flags.flag("--ids", options->ids, "Print a JSON array of ids a record instead");
  flags.flag("--no-special", options->no_special,
             "With --ids: without the tokenizer's own BOS and EOS");
  flags.flag("--lines", options->lines, "Each line of a .txt is a record");
  const OptionFlags reading(flags, [](const OptionRow& row) { return row.of_data; });
  add_threads(flags, options->threads);
  return {flags, [options, reading] {
            reading.apply(options->reading);
            check_data_options(options->reading);
            if (options->ids != options->out.empty())
              fail_input("tokenize: expected --out FILE or --ids, got {}",
                         options->ids ? "both" : "neither");
            if (options->force && options->ids) fail_input("--force: expected --out beside it");
            if (options->no_special && !options->ids)
              fail_input("--no-special: expected --ids beside it");
            return in_world(options->threads, [&](World& world, const Machine&) {
              settle_date(options->reading, options->model, "", world.communicator());
              if (!options->ids && world.rank() == 0) check_out(*options);
              const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::load(options->model);
              if (world.rank() == 0) say_tokenizer_note(*tokenizer);
              return options->ids ? print_ids(*options, *tokenizer, world)
                                  : write_file(*options, *tokenizer, world);
            });
          }};
}

Command add_detokenize(const Flags& program) {
  auto model = std::make_shared<std::string>();
  const Flags flags = program.command(
      "detokenize", "JSON arrays of ids on stdin, one a line, as JSON strings on stdout");
  flags.word("--model", *model, "Model folder", Flags::kRequired);
  return {flags, [model] { return run_detokenize(*model); }};
}

}  // namespace tenon
