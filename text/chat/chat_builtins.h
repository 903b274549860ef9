// SPDX-License-Identifier: Apache-2.0
// Chat templates for models whose files have none.
#pragma once

#include <span>
#include <string_view>

namespace tenon {

struct ChatBuiltin {
  std::string_view name;
  std::string_view source;  // with special tokens of its own where the model's files name none
};

std::span<const ChatBuiltin> chat_builtins();

}  // namespace tenon
