// SPDX-License-Identifier: Apache-2.0
// What ends the assistant's turn as a chat template writes it: there a model that was trained with
// the template is to stop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "text/chat/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace tenon {

struct EndOfTurn {
  // "<|im_end|>": what stands behind what the assistant said, without the white space around it; ""
  // where the template writes nothing else there, so that nothing tells a turn's end.
  std::string text;
  // The one token that it is, or that it begins with. Without one a model has to write the text
  // token by token, and ends only where the text is looked for.
  std::optional<int32_t> id;
};

EndOfTurn end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer);

}  // namespace tenon
