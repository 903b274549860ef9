// SPDX-License-Identifier: Apache-2.0
// What the commands share that let a model speak: how tokens are chosen, and which end a text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/generate.h"
#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tools/flags.h"

namespace tenon {

// --temperature, --top-k, --top-p, --min-p, --repetition-penalty and --seed. Copies share what was
// given.
class SamplingFlags {
 public:
  explicit SamplingFlags(const Flags& flags);
  // What the flags say; where they are silent, generation_config.json of the model's folder, of
  // which temperature, top_k, top_p and min_p count where its do_sample is true, with transformers'
  // defaults; else greedy. Says on stderr when the file makes it draw. Throws Error(kInput).
  SamplingOptions resolve(const std::filesystem::path& folder) const;
  // What the flags say; `defaults` where they are silent.
  SamplingOptions over(SamplingOptions defaults) const;

 private:
  struct Given {
    std::optional<double> temperature, top_p, min_p, repetition_penalty;
    std::optional<int64_t> top_k;
    uint64_t seed = SamplingOptions().seed;
  };
  std::shared_ptr<Given> given_;
};

// What ends a text that a model makes.
struct TextEnds {
  std::vector<int32_t> tokens;
  std::vector<std::string> texts;  // where no token does
};

// generation_config.json's end tokens, else config.json's, else the tokenizer's; and that with which
// `chat` (if not null) ends what an assistant says, or its text where it is not one token.
TextEnds text_ends(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                   int64_t vocabulary, const ChatTemplate* chat);

// Says on stderr what a person should know of the tokenizer's files.
void say_tokenizer_note(const Tokenizer& tokenizer);

}  // namespace tenon
