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

void add_run(size_t begin, size_t end, bool scored, DocumentTokens& tokens) {
  if (begin >= end) return;
  const auto count = static_cast<int64_t>(end - begin);
  if (!tokens.runs.empty() && tokens.runs.back().scored == scored) {
    tokens.runs.back().count += count;
  } else {
    tokens.runs.push_back({count, scored});
  }
}

// Each piece by itself, going on where the one before it ended, as where a model goes on with a
// prompt.
void encode_pieces(const Document& document, const Tokenizer& tokenizer, DocumentTokens& tokens) {
  for (const DocumentPiece& piece : document.pieces) {
    const size_t before = tokens.ids.size();
    if (before == 0) {
      tokenizer.encode(piece.text, tokens.ids);
    } else {
      tokenizer.encode_continued(piece.text, true, tokens.ids);
    }
    add_run(before, tokens.ids.size(), piece.scored, tokens);
  }
}

// The special tokens among ids[span] that a text of people's names.
void add_named(std::string_view said, TextRange span, const Tokenizer& tokenizer,
               DocumentTokens& tokens) {
  for (size_t i = span.begin; i < span.end; ++i) {
    const int32_t id = tokens.ids[i];
    if (tokenizer.is_special(id) && said.find(*tokenizer.token(id)) != said.npos)
      tokens.named.push_back(id);
  }
}

// All pieces as one text.
void encode_whole(const Document& document, const Tokenizer& tokenizer, bool plain_people,
                  DocumentTokens& tokens) {
  std::string text;
  std::vector<TextRange> plain, spans;
  std::vector<const DocumentPiece*> pieces;  // of the spans
  for (const DocumentPiece& piece : document.pieces) {
    if (piece.text.empty()) continue;
    pieces.push_back(&piece);
    spans.push_back({text.size(), text.size() + piece.text.size()});
    if (piece.people && plain_people) plain.push_back(spans.back());
    text += piece.text;
  }
  tokenizer.encode_spans(text, plain, spans, tokens.ids);
  size_t done = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    const DocumentPiece& piece = *pieces[i];
    if (piece.people) add_named(piece.text, spans[i], tokenizer, tokens);
    if (!piece.scored) continue;
    add_run(done, spans[i].begin, false, tokens);
    done = std::max(done, spans[i].begin);
    add_run(done, spans[i].end, true, tokens);
    done = std::max(done, spans[i].end);
  }
  add_run(done, tokens.ids.size(), false, tokens);
}

// What the framing puts behind a document.
std::vector<int32_t> ending(const Tokenizer& tokenizer, Framing framing) {
  if (framing == Framing::kPrompt) return tokenizer.suffix();
  const bool ends = framing == Framing::kDocument && tokenizer.eos_id();
  return ends ? std::vector<int32_t>{*tokenizer.eos_id()} : std::vector<int32_t>{};
}

}  // namespace

void tokenize_document(const Document& document, const Tokenizer& tokenizer, Framing framing,
                       DocumentTokens& tokens, bool plain_people) {
  tokens.ids.clear();
  tokens.runs.clear();
  tokens.sample = document.sample;
  tokens.front = tokens.back = 0;
  tokens.named.clear();
  if (document.whole) {
    encode_whole(document, tokenizer, plain_people, tokens);
  } else {
    encode_pieces(document, tokenizer, tokens);
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
