// SPDX-License-Identifier: Apache-2.0
#include "text/data/chat_document.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace tenon {
namespace {

// Cuts [0, size) where one of the ranges, which are in order, begins or ends.
template <class Ranges>
void add_cuts(const Ranges& ranges, std::vector<size_t>& cuts) {
  for (const auto& range : ranges) {
    cuts.push_back(range.begin);
    cuts.push_back(range.end);
  }
}

// Whether one of the ranges from `next` on, which moves on, holds the byte. Requires: bytes are
// asked for in order.
template <class Ranges>
bool holds(const Ranges& ranges, size_t byte, size_t& next) {
  while (next < ranges.size() && ranges[next].end <= byte) ++next;
  return next < ranges.size() && ranges[next].begin <= byte;
}

// What is to be learnt of what the assistant says.
std::vector<ChatSpan> learnt_spans(const Conversation& chat, const WrittenChat& written,
                                   TrainOn train_on) {
  if (train_on == TrainOn::kEverything) return {{0, written.text.size(), 0}};
  std::vector<ChatSpan> spans = written.turns;
  std::erase_if(spans, [&](const ChatSpan& span) {
    return span.turn < chat.given.size() && chat.given[span.turn];
  });
  if (train_on == TrainOn::kLast && !spans.empty()) {
    const size_t last = std::max_element(spans.begin(), spans.end(), [](auto& a, auto& b) {
                          return a.turn < b.turn;
                        })->turn;
    std::erase_if(spans, [&](const ChatSpan& span) { return span.turn != last; });
  }
  return spans;
}

// Whether the assistant says something that is not given.
bool has_answer(const Conversation& chat) {
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const bool given = i < chat.given.size() && chat.given[i];
    if (!given && chat.messages[i].value("role", "") == "assistant") return true;
  }
  return false;
}

WrittenChat write(const nlohmann::ordered_json& messages, const Conversation& chat,
                  const ChatTemplate& chat_template, bool add_generation_prompt,
                  const std::string& place) {
  try {
    return chat_template.write_with_spans(messages, chat.extra, add_generation_prompt);
  } catch (const Error& error) {
    if (error.code() != Exit::kInput) throw;
    fail_input("{}: {}", place, error.what());
  }
}

// What a model is asked with for the last of the turns, and that turn.
void add_question(const Conversation& chat, const WrittenChat& written,
                  const std::vector<ChatSpan>& spans, const DocumentOptions& options,
                  const std::string& place, Document& document) {
  const size_t turn = spans.back().turn;
  const ChatSpan& first = *std::find_if(spans.begin(), spans.end(),
                                        [turn](const ChatSpan& span) { return span.turn == turn; });
  nlohmann::ordered_json before = nlohmann::ordered_json::array();
  for (size_t i = 0; i < turn; ++i) before.push_back(chat.messages[i]);
  const WrittenChat asked = write(before, chat, *options.chat_template, true, place);
  add_pieces(asked, {}, 0, asked.text.size(), document);
  add_pieces(written, spans, first.begin, spans.back().end, document);
}

}  // namespace

void add_pieces(const WrittenChat& written, const std::vector<ChatSpan>& spans, size_t begin,
                size_t end, Document& document) {
  std::vector<size_t> cuts{begin, end};
  add_cuts(spans, cuts);
  add_cuts(written.people, cuts);
  std::vector<size_t> apart;
  for (const ChatSpan& turn : written.turns) {
    if (turn.begin > 0 && written.text[turn.begin - 1] == ' ') apart.push_back(turn.begin);
  }
  cuts.insert(cuts.end(), apart.begin(), apart.end());
  std::erase_if(cuts, [&](size_t cut) { return cut < begin || cut > end; });
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  size_t next_span = 0, next_people = 0;
  for (size_t i = 0; i + 1 < cuts.size(); ++i) {
    document.pieces.push_back({written.text.substr(cuts[i], cuts[i + 1] - cuts[i]),
                               holds(spans, cuts[i], next_span),
                               holds(written.people, cuts[i], next_people),
                               std::binary_search(apart.begin(), apart.end(), cuts[i])});
  }
}

void write_chat(const Conversation& chat, const DocumentOptions& options, const std::string& place,
                Document& document) {
  const WrittenChat written = write(chat.messages, chat, *options.chat_template, false, place);
  const std::vector<ChatSpan> spans = learnt_spans(chat, written, options.train_on);
  if (spans.empty() && has_answer(chat)) {
    fail_input(
        "{}: {} writes nothing of what the assistant says: expected it within the conversation, or "
        "--train-on everything; another template can be given by --chat-template",
        place, options.chat_template->source());
  }
  document.framed = false;
  document.whole = true;
  if (options.train_on != TrainOn::kEverything) document.unwritten = written.unmarked;
  if (options.questions && !spans.empty() && options.train_on != TrainOn::kEverything) {
    add_question(chat, written, spans, options, place, document);
  } else {
    add_pieces(written, spans, 0, written.text.size(), document);
  }
}

}  // namespace tenon
