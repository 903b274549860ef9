// SPDX-License-Identifier: Apache-2.0
#include "text/chat/chat_spans.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tenon {
namespace {

using jinja::Origin;
using nlohmann::ordered_json;
using Kind = Origin::Kind;

// Roles that are words of templates, not of people.
constexpr std::string_view kRoles[] = {"system", "developer", "user",    "assistant",  "model",
                                       "tool",   "function",  "ipython", "environment"};

struct Piece {
  size_t begin, end;
  Origin origin;

  bool is_content() const { return origin.kind == Kind::kMessage; }
  bool is_content_of(size_t turn) const { return is_content() && origin.number == turn; }
  bool is_content_of_other(size_t turn) const { return is_content() && origin.number != turn; }
};

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

std::string_view role_of(const ordered_json& message) {
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string()) return {};
  return role->get_ref<const std::string&>();
}

class SpanReader {
 public:
  SpanReader(const jinja::Written& written, const WrittenFrom& from)
      : text_(written.text), owners_(written.owners), from_(from), limit_(text_.size()) {
    written.origins.each(0, text_.size(), [&](size_t begin, size_t end, const Origin& origin) {
      pieces_.push_back({begin, end, origin});
    });
    const std::string& prompt = from.prompt.text;
    if (from.prompted && !prompt.empty() && text_.ends_with(prompt)) limit_ -= prompt.size();
  }

  std::vector<ChatSpan> spans() const {
    std::vector<ChatSpan> spans = generations();
    if (spans.empty()) {
      for (size_t turn = 0; turn < from_.messages.size(); ++turn) {
        if (!is_assistant(turn)) continue;
        if (const auto span = span_of(turn)) spans.push_back(*span);
      }
    }
    std::stable_sort(spans.begin(), spans.end(),
                     [](const ChatSpan& a, const ChatSpan& b) { return a.begin < b.begin; });
    size_t end = 0;
    for (ChatSpan& span : spans) {
      span.begin = std::max(span.begin, end);
      end = std::max(span.end, end);
    }
    std::erase_if(spans, [](const ChatSpan& span) { return span.begin >= span.end; });
    return spans;
  }

  std::vector<TextRange> people() const {
    std::vector<TextRange> ranges;
    for (const Piece& piece : pieces_) {
      if (piece.begin == piece.end || !is_by_people(piece.origin)) continue;
      if (!ranges.empty() && ranges.back().end == piece.begin) {
        ranges.back().end = piece.end;
      } else {
        ranges.push_back({piece.begin, piece.end});
      }
    }
    return ranges;
  }

  int64_t unmarked(const std::vector<ChatSpan>& spans) const {
    int64_t count = 0;
    for (size_t turn = 0; turn < from_.messages.size(); ++turn) {
      count += is_assistant(turn) && std::none_of(spans.begin(), spans.end(), [&](const auto& one) {
                 return one.turn == turn;
               });
    }
    return count;
  }

 private:
  static constexpr size_t kNone = SIZE_MAX;

  bool is_assistant(size_t turn) const { return role_of(from_.messages[turn]) == "assistant"; }
  bool is_by_people(const Origin& origin) const {
    if (origin.kind != Kind::kRole) return origin.kind != Kind::kTemplate;
    const std::string_view role = role_of(from_.messages[origin.number]);
    return std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles);
  }

  // -1 where nobody owns it.
  int64_t owner(uint32_t iteration) const { return iteration > 0 ? owners_[iteration - 1] : -1; }
  bool is_owned_by(size_t turn, const Piece& piece) const {
    return owner(piece.origin.iteration) == static_cast<int64_t>(turn);
  }
  bool together(size_t a, size_t b) const {
    return pieces_[a].origin.iteration == pieces_[b].origin.iteration;
  }
  std::string_view between(size_t begin, size_t end) const {
    return std::string_view(text_).substr(begin, end - begin);
  }

  // ------------------------------------------------------------------- {% generation %} blocks

  std::vector<ChatSpan> generations() const {
    std::vector<ChatSpan> spans;
    for (size_t i = 0, end = 0; i < pieces_.size(); i = end) {
      end = i + 1;
      const uint32_t number = pieces_[i].origin.generation;
      if (number == 0) continue;
      while (end < pieces_.size() && continues(end, number)) ++end;
      spans.push_back({pieces_[i].begin, pieces_[end - 1].end, turn_within(i, end)});
    }
    return spans;
  }

  // Whether a block goes on with the piece: something of the template's may have replaced some of it.
  bool continues(size_t at, uint32_t generation) const {
    while (at < pieces_.size() && pieces_[at].origin.generation == 0 &&
           pieces_[at].origin.kind == Kind::kTemplate) {
      ++at;
    }
    return at < pieces_.size() && pieces_[at].origin.generation == generation;
  }

  // The message whose turn the pieces [first, last) are.
  size_t turn_within(size_t first, size_t last) const {
    const auto begin = pieces_.begin() + static_cast<std::ptrdiff_t>(first),
               end = pieces_.begin() + static_cast<std::ptrdiff_t>(last);
    const auto said = std::find_if(begin, end, [&](const Piece& one) {
      const bool of_message = one.is_content() || one.origin.kind == Kind::kRole;
      return of_message && is_assistant(one.origin.number);
    });
    if (said != end) return said->origin.number;
    const auto owned = std::find_if(
        begin, end, [&](const Piece& one) { return owner(one.origin.iteration) >= 0; });
    if (owned != end) return static_cast<size_t>(owner(owned->origin.iteration));
    // Only literals, in no message's iteration: the assistant's next turn behind what came before.
    size_t turn = 0;
    for (auto piece = pieces_.begin(); piece != begin; ++piece) {
      if (piece->is_content()) turn = piece->origin.number + 1;
    }
    while (turn < from_.messages.size() && !is_assistant(turn)) ++turn;
    return std::min(turn, from_.messages.size() - 1);
  }

  // -------------------------------------------------------------------------------- by origins

  // The piece with the last of what is written of the turn: of several places the last, in an
  // iteration of its own where there is one.
  size_t last_content(size_t turn) const {
    size_t best = kNone;
    int best_rank = -1;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const Piece& piece = pieces_[i];
      if (!piece.is_content_of(turn)) continue;
      const int rank = (piece.begin < piece.end ? 2 : 0) + (is_owned_by(turn, piece) ? 1 : 0);
      if (rank < best_rank) continue;
      best = i;
      best_rank = rank;
    }
    return best;
  }

  // The last piece of the last iteration in which the template says something of the turn, though
  // nothing that the message holds.
  size_t last_mention(size_t turn) const {
    for (size_t i = pieces_.size(); i-- > 0;) {
      const Piece& piece = pieces_[i];
      if (!is_owned_by(turn, piece) || piece.is_content()) continue;
      if (!is_blank(between(piece.begin, piece.end))) {
        return last_together(i, turn);
      }
    }
    return kNone;
  }

  // The first and last pieces around `at` of its iteration, up to what other messages say.
  size_t first_together(size_t at, size_t turn) const {
    while (at > 0 && together(at - 1, at) && !pieces_[at - 1].is_content_of_other(turn)) --at;
    return at;
  }
  size_t last_together(size_t at, size_t turn) const {
    while (at + 1 < pieces_.size() && together(at + 1, at) &&
           !pieces_[at + 1].is_content_of_other(turn)) {
      ++at;
    }
    return at;
  }

  std::optional<ChatSpan> span_of(size_t turn) const {
    const size_t last = last_content(turn);
    const bool says = last != kNone;
    const size_t from = says ? last : last_mention(turn);
    if (from == kNone) return std::nullopt;
    size_t first = from + (says ? 0 : 1);  // the first piece of what is said; all is header before
    const size_t around = first_together(from, turn);
    for (size_t i = from; says && i-- > around;) {
      if (pieces_[i].is_content_of(turn)) first = i;
    }
    const ChatSpan span{begin_of(turn, around, first, says), end_of(turn, from), turn};
    if (span.begin >= span.end) return std::nullopt;
    if (!says && is_blank(between(span.begin, span.end))) return std::nullopt;
    return span;
  }

  // Where what is said begins: the template writes the pieces [around, first) before what the
  // message holds, if it holds anything.
  size_t begin_of(size_t turn, size_t around, size_t first, bool says) const {
    const size_t begin = pieces_[around].begin;
    const size_t content = says ? pieces_[first].begin : pieces_[first - 1].end;
    if (!from_.prompt.text.empty()) {
      std::vector<size_t> cuts;
      for (size_t i = around; i < first; ++i) cuts.push_back(pieces_[i].end - begin);
      const auto header = header_within(between(begin, content), cuts, from_.prompt, says);
      return header ? begin + *header : says ? content : begin;
    }
    // Nothing says what the header is: what is written in the message's own iteration, but its role
    // and the literal behind it, is said.
    const Piece& piece = pieces_[around];
    const bool after_other = around > 0 && together(around - 1, around);
    const bool own = piece.origin.iteration != 0 && !after_other &&
                     (owner(piece.origin.iteration) < 0 || is_owned_by(turn, piece));
    if (!own) return content;
    for (size_t i = first; i-- > around;) {
      if (pieces_[i].origin.kind != Kind::kRole) continue;
      return i + 1 < first ? pieces_[i + 1].end : content;
    }
    return begin;
  }

  // Where what is said ends, of which `from` is the last piece that is known.
  size_t end_of(size_t turn, size_t from) const {
    const bool is_last = turn + 1 == from_.messages.size();
    const size_t last = last_together(from, turn), said = pieces_[from].end;
    size_t end = pieces_[last].end;
    const bool before_other = last + 1 < pieces_.size() && together(last + 1, last);
    if (before_other || (pieces_[from].origin.iteration == 0 && !is_last)) {
      return std::min(said + end_of_turn(between(said, std::max(said, end)), from_.eos), limit_);
    }
    // A template may end a conversation behind its loop; beside a marker of the turn's own that is
    // none of the turn's.
    const bool ends_all =
        is_last && is_blank(between(said, std::max(said, end))) &&
        std::all_of(pieces_.begin() + static_cast<std::ptrdiff_t>(last) + 1, pieces_.end(),
                    [&](const Piece& piece) {
                      return piece.origin.kind == Kind::kTemplate || piece.is_content_of(turn);
                    });
    if (ends_all) end = text_.size();
    return std::min(end, limit_);
  }

  const std::string& text_;
  const std::vector<int64_t>& owners_;
  const WrittenFrom& from_;
  std::vector<Piece> pieces_;
  size_t limit_;  // where the generation prompt begins, if it stands at the end
};

}  // namespace

GenerationPrompt generation_prompt(const jinja::Written& without, const jinja::Written& with) {
  const std::string_view a = without.text, b = with.text;
  const auto same =
      static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  std::vector<size_t> ends;
  with.origins.each(0, b.size(), [&](size_t, size_t end, const Origin&) { ends.push_back(end); });
  // Where something else is written without the prompt, the prompt begins with a literal.
  size_t begin = same;
  if (same < a.size()) {
    begin = 0;
    for (const size_t end : ends) begin = end <= same ? end : begin;
  }
  const std::string_view behind = a.substr(begin);
  size_t end = b.size();
  if (b.size() - begin > behind.size() && b.ends_with(behind)) end -= behind.size();
  GenerationPrompt prompt{std::string(b.substr(begin, end - begin)), {}};
  for (const size_t cut : ends) {
    if (begin < cut && cut < end) prompt.cuts.push_back(cut - begin);
  }
  return prompt;
}

WrittenChat read_spans(jinja::Written written, const WrittenFrom& from) {
  WrittenChat chat;
  {
    const SpanReader reader(written, from);
    chat.turns = reader.spans();
    chat.people = reader.people();
    chat.unmarked = reader.unmarked(chat.turns);
  }
  chat.text = std::move(written.text);
  return chat;
}

}  // namespace tenon
