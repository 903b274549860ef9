// SPDX-License-Identifier: Apache-2.0
// With what a chat template ends what an assistant says: generation must stop there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon {

struct EndOfTurn {
  std::string text;           // as it is written, without white space around; "": nothing is
  std::optional<int32_t> id;  // the special token of the vocabulary that it begins with
};
// Nothing where it cannot be told: some templates refuse all but conversations of their own kind.
std::optional<EndOfTurn> end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer);

}  // namespace tenon
