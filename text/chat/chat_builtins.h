// SPDX-License-Identifier: Apache-2.0
// Chat templates for models whose files have none.
#pragma once

#include <span>
#include <string_view>

namespace tenon {

struct ChatBuiltin {
  std::string_view name;
  std::string_view source;
  std::string_view bos, eos;  // where the model's files name none; "": none
};

std::span<const ChatBuiltin> chat_builtins();

}  // namespace tenon
