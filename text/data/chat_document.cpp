// SPDX-License-Identifier: Apache-2.0
#include "text/data/chat_document.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace tenon {
namespace {

void add_piece(std::string_view text, bool scored, Document& document) {
  if (text.empty()) return;
  if (!document.pieces.empty() && document.pieces.back().scored == scored) {
    document.pieces.back().text += text;
  } else {
    document.pieces.push_back({std::string(text), scored});
  }
}

}  // namespace

void write_chat(const Conversation& chat, const DocumentOptions& options, const std::string& place,
                Document& document) {
  WrittenChat written;
  try {
    written = options.chat_template->write_with_spans(chat.messages, chat.extra);
  } catch (const Error& error) {
    if (error.code() != Exit::kInput) throw;
    fail_input("{}: {}", place, error.what());
  }
  int64_t given = 0;  // turns of the assistant that are not to be learnt
  for (size_t i = 0; i < chat.given.size() && chat.given[i]; ++i) {
    given += chat.messages[i].value("role", "") == "assistant" ? 1 : 0;
  }
  std::vector<ChatSpan>& spans = written.assistant;
  spans.erase(spans.begin(),
              spans.begin() + std::min<int64_t>(given, static_cast<int64_t>(spans.size())));
  if (options.train_on == TrainOn::kLast && spans.size() > 1) {
    spans.erase(spans.begin(), spans.end() - 1);
  }
  if (options.train_on == TrainOn::kEverything) spans = {{0, written.text.size()}};
  document.framed = false;
  const std::string_view text = written.text;
  size_t at = 0;
  for (const ChatSpan& span : spans) {
    add_piece(text.substr(at, span.begin - at), false, document);
    add_piece(text.substr(span.begin, span.end - span.begin), true, document);
    at = span.end;
  }
  add_piece(text.substr(at), false, document);
}

}  // namespace tenon
