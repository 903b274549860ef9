// SPDX-License-Identifier: Apache-2.0
#include "text/chat/end_of_turn.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"

namespace tenon {
namespace {

// A conversation of one turn as the template writes it, with a system message before it where it
// wants one; nothing where it refuses both.
std::optional<WrittenChat> written_turn(const ChatTemplate& chat) {
  nlohmann::ordered_json messages = {{{"role", "user"}, {"content", "no"}},
                                     {{"role", "assistant"}, {"content", "yes"}}};
  for (int tries = 0; tries < 2; ++tries) {
    try {
      return chat.write_with_spans(messages, nullptr, false);
    } catch (const Error& error) {
      if (error.code() != Exit::kInput) throw;
      messages.insert(messages.begin(),
                      nlohmann::ordered_json::object({{"role", "system"}, {"content", "so"}}));
    }
  }
  return std::nullopt;
}

}  // namespace

EndOfTurn end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  EndOfTurn end;
  const std::optional<WrittenChat> written = written_turn(chat);
  if (!written || written->turns.empty()) return end;
  const ChatSpan& turn = written->turns.back();
  size_t begin = turn.begin;  // behind what came with the message
  for (const TextRange& said : written->people) {
    if (said.begin >= turn.begin && said.end <= turn.end) begin = said.end;
  }
  const std::string_view behind = std::string_view(written->text).substr(begin, turn.end - begin);
  const size_t first = behind.find_first_not_of(" \t\r\n");
  if (first == behind.npos) return end;
  end.text = behind.substr(first, behind.find_last_not_of(" \t\r\n") + 1 - first);
  std::vector<int32_t> ids;
  tokenizer.encode_continued(end.text, true, ids);
  if (!ids.empty() && tokenizer.is_added(ids[0])) {
    end.id = ids[0];
    end.text = *tokenizer.token(ids[0]);
  }
  return end;
}

}  // namespace tenon
