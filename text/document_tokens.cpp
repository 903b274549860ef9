// SPDX-License-Identifier: Apache-2.0
#include "text/document_tokens.h"

#include <algorithm>

namespace tenon {
namespace {

bool begins_with(const std::vector<int32_t>& ids, const std::vector<int32_t>& front) {
  return ids.size() >= front.size() && std::equal(front.begin(), front.end(), ids.begin());
}

}  // namespace

void tokenize_document(const Document& document, const Tokenizer& tokenizer, bool append_eos,
                       DocumentTokens& tokens) {
  tokens.ids.clear();
  tokens.runs.clear();
  tokens.sample = document.sample;
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
  if (tokens.ids.empty() || !document.framed) return;
  const std::vector<int32_t>& prefix = tokenizer.prefix();
  if (!begins_with(tokens.ids, prefix)) {
    tokens.ids.insert(tokens.ids.begin(), prefix.begin(), prefix.end());
    tokens.runs.front().count += static_cast<int64_t>(prefix.size());
  }
  const std::optional<int32_t> eos = tokenizer.eos_id();
  if (!append_eos || !eos || tokens.ids.back() == *eos) return;
  tokens.ids.push_back(*eos);
  tokens.runs.push_back({1, true});
}

}  // namespace tenon
