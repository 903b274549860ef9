// SPDX-License-Identifier: Apache-2.0
#include "tools/sampling_flags.h"

#include <algorithm>
#include <cstdio>
#include <limits>

#include "core/files.h"
#include "core/json.h"
#include "text/chat/end_of_turn.h"
#include "tools/command.h"

namespace tenon {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMostTopK = 1 << 24;
constexpr double kLeastPenalty = 1e-3, kMostPenalty = 1e3;

template <class Number>
void add_optional(const Flags& flags, const std::string& name, std::optional<Number>& value,
                  Number least, Number most, const std::string& help) {
  const auto set = [=, &value](const std::string& text) {
    value = parse_number(name, text, least, most);
  };
  flags.read(name, set, help);
}

// As generation_config.json says.
SamplingOptions of_file(const fs::path& path) {
  SamplingOptions options;
  if (!files::exists(path)) return options;
  const JsonObject file = JsonObject::read(path);
  options.repetition_penalty =
      file.number("repetition_penalty", kLeastPenalty, kMostPenalty, options.repetition_penalty);
  if (!file.boolean("do_sample", false)) return options;
  options.temperature = file.number("temperature", 0, 100, 1.0);
  options.top_k = file.integer("top_k", 0, kMostTopK, 50);
  options.top_p = file.number("top_p", 0, 1, options.top_p);
  options.min_p = file.number("min_p", 0, 1, options.min_p);
  return options;
}

// End tokens of the files of a model, or the tokenizer's.
std::vector<int32_t> ends_of_files(const fs::path& folder, const Tokenizer& tokenizer,
                                   int64_t vocabulary) {
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!files::exists(folder / name)) continue;
    const std::vector<int64_t> ids =
        JsonObject::read(folder / name).integers("eos_token_id", 0, vocabulary - 1);
    if (!ids.empty()) return {ids.begin(), ids.end()};
  }
  return tokenizer.eos_id() ? std::vector<int32_t>{*tokenizer.eos_id()} : std::vector<int32_t>{};
}

}  // namespace

SamplingFlags::SamplingFlags(const Flags& flags) : given_(std::make_shared<Given>()) {
  Given& g = *given_;
  add_optional(flags, "--temperature", g.temperature, 0.0, 100.0,
               "0: greedy (default: 0, and for generate as generation_config.json says)");
  add_optional(flags, "--top-k", g.top_k, int64_t{0}, kMostTopK, "Only the k likeliest (0: off)");
  add_optional(flags, "--top-p", g.top_p, 0.0, 1.0, "Only the likeliest with this mass (1: off)");
  add_optional(flags, "--min-p", g.min_p, 0.0, 1.0,
               "Only what is at least so likely beside the likeliest (0: off)");
  add_optional(flags, "--repetition-penalty", g.repetition_penalty, kLeastPenalty, kMostPenalty,
               "Price of tokens that were there before (1: none)");
  flags.number<uint64_t>("--seed", g.seed, 0, std::numeric_limits<int64_t>::max(),
                         "Seed of the draws");
}

SamplingOptions SamplingFlags::resolve(const fs::path& folder) const {
  SamplingOptions options = of_file(folder / "generation_config.json");
  const Given& g = *given_;
  if (!g.temperature && options.temperature > 0) {
    std::fprintf(stderr,
                 "tenon: note: draws with temperature %g, as generation_config.json says; "
                 "--temperature 0 is greedy\n",
                 options.temperature);
  }
  return over(options);
}

SamplingOptions SamplingFlags::over(SamplingOptions options) const {
  const Given& g = *given_;
  options.temperature = g.temperature.value_or(options.temperature);
  options.top_k = g.top_k.value_or(options.top_k);
  options.top_p = g.top_p.value_or(options.top_p);
  options.min_p = g.min_p.value_or(options.min_p);
  options.repetition_penalty = g.repetition_penalty.value_or(options.repetition_penalty);
  options.seed = g.seed;
  return options;
}

TextEnds text_ends(const fs::path& folder, const Tokenizer& tokenizer, int64_t vocabulary,
                   const ChatTemplate* chat) {
  TextEnds ends{ends_of_files(folder, tokenizer, vocabulary), {}};
  if (chat == nullptr) return ends;
  const EndOfTurn end = end_of_turn(*chat, tokenizer);
  if (!end.id) {
    if (!end.text.empty()) ends.texts.push_back(end.text);
  } else if (std::find(ends.tokens.begin(), ends.tokens.end(), *end.id) == ends.tokens.end()) {
    ends.tokens.push_back(*end.id);
  }
  return ends;
}

void say_tokenizer_note(const Tokenizer& tokenizer) {
  if (!tokenizer.note().empty())
    std::fprintf(stderr, "tenon: note: %s\n", tokenizer.note().c_str());
}

}  // namespace tenon
