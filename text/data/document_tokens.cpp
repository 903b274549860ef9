// SPDX-License-Identifier: Apache-2.0
#include "text/data/document_tokens.h"

#include <algorithm>
#include <string>
#include <utility>

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

// A document whose pieces are one text.
class WholeText {
 public:
  WholeText(const Document& document, const Tokenizer& tokenizer, bool plain_people)
      : tokenizer_(tokenizer), plain_people_(plain_people) {
    for (const DocumentPiece& piece : document.pieces) {
      if (piece.text.empty()) continue;
      pieces_.push_back(&piece);
      bytes_.push_back({text_.size(), text_.size() + piece.text.size()});
      text_ += piece.text;
    }
  }

  void encode(DocumentTokens& tokens) {
    encode_part(0, pieces_.size(), tokens);
    if (const std::vector<size_t> where = cuts_apart(); !where.empty()) {
      tokens.ids.clear();
      spans_.clear();
      size_t first = 0;
      for (const size_t cut : where) encode_part(std::exchange(first, cut), cut, tokens);
      encode_part(first, pieces_.size(), tokens);
    }
    size_t done = 0;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (pieces_[i]->people) add_named(pieces_[i]->text, spans_[i], tokens);
      if (!pieces_[i]->scored) continue;
      add_run(done, spans_[i].begin, false, tokens);
      done = std::max(done, spans_[i].begin);
      add_run(done, spans_[i].end, true, tokens);
      done = std::max(done, spans_[i].end);
    }
    add_run(done, tokens.ids.size(), false, tokens);
  }

 private:
  // Appends the ids of pieces [first, last) and their spans of tokens.
  void encode_part(size_t first, size_t last, DocumentTokens& tokens) {
    if (first == last) return;
    const size_t begin = bytes_[first].begin;
    std::vector<TextRange> plain, spans;
    for (size_t i = first; i < last; ++i) {
      spans.push_back({bytes_[i].begin - begin, bytes_[i].end - begin});
      if (pieces_[i]->people && plain_people_) plain.push_back(spans.back());
    }
    tokenizer_.encode_spans(std::string_view(text_).substr(begin, bytes_[last - 1].end - begin),
                            first > 0, plain, spans, tokens.ids);
    spans_.insert(spans_.end(), spans.begin(), spans.end());
  }

  // The pieces that stand apart and share a token with the one before.
  std::vector<size_t> cuts_apart() const {
    std::vector<size_t> cuts;
    for (size_t i = 1; i < pieces_.size(); ++i) {
      if (pieces_[i]->apart && spans_[i].begin < spans_[i - 1].end) cuts.push_back(i);
    }
    return cuts;
  }

  // The special tokens of a piece that people's text names.
  void add_named(std::string_view said, TextRange span, DocumentTokens& tokens) const {
    for (size_t i = span.begin; i < span.end; ++i) {
      const int32_t id = tokens.ids[i];
      if (tokenizer_.is_special(id) && said.find(*tokenizer_.token(id)) != said.npos)
        tokens.named.push_back(id);
    }
  }

  const Tokenizer& tokenizer_;
  bool plain_people_;
  std::string text_;
  std::vector<const DocumentPiece*> pieces_;  // that are not empty
  std::vector<TextRange> bytes_, spans_;      // theirs, of the text and of the tokens
};

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
    WholeText(document, tokenizer, plain_people).encode(tokens);
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
