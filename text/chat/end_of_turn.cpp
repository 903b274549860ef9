// SPDX-License-Identifier: Apache-2.0
#include "text/chat/end_of_turn.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"

namespace tenon {

std::optional<EndOfTurn> end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  const std::string said = "yes";
  const nlohmann::ordered_json messages = {{{"role", "user"}, {"content", "no"}},
                                           {{"role", "assistant"}, {"content", said}}};
  std::string whole;
  try {
    whole = chat.write(messages, false, nullptr);
  } catch (const Error&) {
    return std::nullopt;
  }
  const size_t at = whole.rfind(said);
  if (at == whole.npos) return std::nullopt;
  EndOfTurn end{.text = whole.substr(at + said.size()), .id = {}};
  std::vector<int32_t> ids;
  tokenizer.encode_continued(end.text, true, ids);
  if (!ids.empty() && tokenizer.is_special(ids[0])) end.id = ids[0];
  const size_t first = end.text.find_first_not_of(" \t\r\n");
  if (first == end.text.npos) return EndOfTurn{};
  end.text = end.text.substr(first, end.text.find_last_not_of(" \t\r\n") + 1 - first);
  return end;
}

}  // namespace tenon
