// SPDX-License-Identifier: Apache-2.0
#include "text/data/document_tokens.h"

#include <algorithm>

namespace tenon {
namespace {

bool begins_with(const std::vector<int32_t>& ids, const std::vector<int32_t>& front) {
  return ids.size() >= front.size() && std::equal(front.begin(), front.end(), ids.begin());
}

bool ends_with(const std::vector<int32_t>& ids, const std::vector<int32_t>& back) {
  return ids.size() >= back.size() && std::equal(back.rbegin(), back.rend(), ids.rbegin());
}

// What the framing puts behind a document.
std::vector<int32_t> ending(const Tokenizer& tokenizer, Framing framing) {
  if (framing == Framing::kPrompt) return tokenizer.suffix();
  const bool ends = framing == Framing::kDocument && tokenizer.eos_id();
  return ends ? std::vector<int32_t>{*tokenizer.eos_id()} : std::vector<int32_t>{};
}

}  // namespace

void tokenize_document(const Document& document, const Tokenizer& tokenizer, Framing framing,
                       DocumentTokens& tokens) {
  tokens.ids.clear();
  tokens.runs.clear();
  tokens.sample = document.sample;
  tokens.front = tokens.back = 0;
  for (const DocumentPiece& piece : document.pieces) {
    const size_t before = tokens.ids.size();
    if (before == 0) {
      tokenizer.encode(piece.text, tokens.ids);
    } else {  // as where a model goes on with a prompt
      tokenizer.encode_continued(piece.text, true, tokens.ids);
    }
    const auto count = static_cast<int64_t>(tokens.ids.size() - before);
    if (count > 0) tokens.runs.push_back({count, piece.scored});
  }
  if (framing == Framing::kNone || !document.framed) return;
  if (tokens.ids.empty()) {
    if (framing != Framing::kPrompt) return;
    tokens.runs.push_back({0, true});
  }
  const std::vector<int32_t>& prefix = tokenizer.prefix();
  const std::vector<int32_t> suffix = ending(tokenizer, framing);
  const bool ended = ends_with(tokens.ids, suffix);
  if (!begins_with(tokens.ids, prefix)) {
    tokens.ids.insert(tokens.ids.begin(), prefix.begin(), prefix.end());
    tokens.front = static_cast<int64_t>(prefix.size());
    tokens.runs.front().count += tokens.front;
  }
  if (ended) return;
  tokens.ids.insert(tokens.ids.end(), suffix.begin(), suffix.end());
  tokens.back = static_cast<int64_t>(suffix.size());
  tokens.runs.push_back({tokens.back, true});
}

}  // namespace tenon
