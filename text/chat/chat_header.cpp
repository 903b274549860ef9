// SPDX-License-Identifier: Apache-2.0
#include "text/chat/chat_header.h"

#include <algorithm>

namespace tenon {
namespace {

bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
         byte == '_' || byte >= 0x80;
}

// The last place up to `at` at which two texts that are equal up to there may be cut.
size_t cut_before(std::string_view a, std::string_view b, size_t at) {
  const std::string_view same = a.substr(0, at);
  const size_t open = same.find_last_of("<[");
  if (open != same.npos && same.find_first_of(">]", open) == same.npos) return open;
  if (at > 0 && (is_word(a[at]) || is_word(b[at]))) {
    while (at > 0 && is_word(a[at - 1])) --at;
  }
  return at;
}

// How many bytes of the text from `from` on are the prompt's.
size_t header_from(std::string_view text, size_t from, const std::vector<size_t>& cuts,
                   const GenerationPrompt& prompt, bool content_follows) {
  const std::string_view rest = text.substr(from), wanted = prompt.text;
  const auto differ = std::mismatch(rest.begin(), rest.end(), wanted.begin(), wanted.end());
  const auto same = static_cast<size_t>(differ.first - rest.begin());
  if (same == wanted.size()) return same;
  if (same == rest.size()) return content_follows ? same : 0;
  size_t cut = cut_before(rest, wanted, same);
  for (const size_t one : cuts) {
    if (one >= from && one - from <= same) cut = std::max(cut, one - from);
  }
  for (const size_t one : prompt.cuts) {
    if (one <= same) cut = std::max(cut, one);
  }
  return cut;
}

// Where the first marker in brackets ends, from `from` on; npos where there is none.
size_t marker_end(std::string_view text, size_t from) {
  const size_t open = text.find_first_of("<[", from);
  if (open == text.npos) return open;
  const size_t close = text.find(text[open] == '<' ? '>' : ']', open);
  return close == text.npos ? close : close + 1;
}

}  // namespace

std::optional<size_t> header_within(std::string_view text, const std::vector<size_t>& cuts,
                                    const GenerationPrompt& prompt, bool content_follows) {
  size_t best = 0, best_from = 0;
  for (size_t from = 0; from < text.size(); ++from) {
    const size_t length = header_from(text, from, cuts, prompt, content_follows);
    const std::string_view header = text.substr(from, length);
    // A line end or space is no sign of the prompt but at the beginning.
    if (from > 0 && header.find_first_not_of(" \t\r\n") == header.npos) continue;
    if (length <= best) continue;
    best = length;
    best_from = from;
  }
  if (best == 0) return std::nullopt;
  return best_from + best;
}

size_t end_of_turn(std::string_view text, std::string_view eos) {
  if (const size_t at = text.find(eos); !eos.empty() && at != text.npos) return at + eos.size();
  const size_t first = marker_end(text, 0);
  if (first == text.npos || marker_end(text, first) == text.npos) return 0;
  return first;
}

}  // namespace tenon
