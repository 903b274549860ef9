// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "core/error.h"
#include "text/tokenizer/replace.h"
#include "text/tokenizer/sentencepiece_model.h"
#include "text/tokenizer/spelled_space.h"
#include "text/tokenizer/text_decoder.h"
#include "text/tokenizer/unigram.h"
#include "text/utf8.h"

namespace tenon {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;
using Type = SentencePieceModel::Type;

// NormalizerSpec.add_dummy_prefix = false as one more field of the model: a message that comes
// twice is merged, the later fields win.
constexpr std::string_view kNoDummyPrefix("\x1A\x02\x18\x00", 4);

void load_model(Processor& processor, const std::string& bytes, const std::string& file) {
  const auto status = processor.LoadFromSerializedProto(bytes);
  if (!status.ok()) fail_input("{}: {}", file, printable(status.ToString()));
}

// What a token is to a decoder.
struct Piece {
  enum Kind : uint8_t { kText, kByte, kUnknown, kVerbatim };
  Kind kind = kVerbatim;  // kVerbatim: its name, as special and added tokens have it
  std::string text;       // of a piece with its spaces as kSpelledSpace
};

// The library's own way back to text: a space that begins the first text belongs to the model, and
// what is invalid in a run of byte tokens becomes one U+FFFD a byte.
class PieceDecoder : public TextDecoder {
 public:
  PieceDecoder(const std::vector<Piece>& pieces, const SentencePieceModel& model)
      : pieces_(pieces), model_(model) {}

  void push(int32_t id, std::string& out) override {
    const Piece& piece = pieces_[id];
    if (piece.kind == Piece::kByte) {
      run_ += piece.text;
      take_bytes(false, out);
      return;
    }
    take_bytes(true, out);
    if (begun_) at_start_ = false;
    std::string text = piece.kind == Piece::kUnknown ? model_.unknown_surface : piece.text;
    if (piece.kind == Piece::kText) {
      bool dropped = false;
      if (at_start_ && (model_.add_dummy_prefix || model_.remove_extra_whitespaces)) {
        dropped = text.starts_with(kSpelledSpace);
        if (dropped) text.erase(0, kSpelledSpace.size());
      }
      begun_ |= dropped && !model_.remove_extra_whitespaces;
      text = replace_all(text, kSpelledSpace, " ");
    }
    give(text, out);
  }
  void finish(std::string& out) override { take_bytes(true, out); }

 private:
  void give(std::string_view text, std::string& out) {
    out += text;
    begun_ |= !text.empty();
  }
  // Gives out the characters that are complete; at the end of the run what is left too.
  void take_bytes(bool end, std::string& out) {
    while (!run_.empty()) {
      const Utf8Char c = first_utf8(run_);
      if (c.kind == Utf8Char::kUnfinished && !end) return;
      const size_t length = c.kind == Utf8Char::kValid ? c.length : 1;
      give(c.kind == Utf8Char::kValid ? std::string_view(run_).substr(0, length) : "\uFFFD", out);
      run_.erase(0, length);
    }
  }

  const std::vector<Piece>& pieces_;
  const SentencePieceModel& model_;
  std::string run_;     // bytes that are no character yet
  bool begun_ = false;  // text was given out, or its first space dropped
  bool at_start_ = true;
};

// A piece of the library's and the bytes of the text that it stands for.
struct Stretch {
  int32_t id;
  std::string text;
  size_t begin, end;
};

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const TokenizerSpec& spec);
  size_t safe_cut(std::string_view text) const override;
  std::string_view bytes(int32_t id) const override {
    return token(id) ? std::string_view(bytes_[id]) : std::string_view();
  }
  std::unique_ptr<TextDecoder> start_decoding() const override {
    return std::make_unique<PieceDecoder>(pieces_, *model_);
  }

 private:
  void read_tokens(const TokenizerSpec& spec);
  void encode_text(std::string_view text, bool continued, std::span<const TextRange> plain,
                   Marks marks, std::vector<int32_t>& out) const override;
  void encode_piece(const Processor& processor, std::string_view piece, Marks marks,
                    std::vector<int32_t>& out) const;
  std::vector<Stretch> stretches(const Processor& processor, std::string_view piece) const;
  void encode_unigram(const std::vector<Stretch>& stretches, Marks marks,
                      std::vector<int32_t>& out) const;
  bool cuts_are_known(const TokenizerSpec& spec) const;

  std::shared_ptr<const SentencePieceModel> model_;
  bool legacy_;
  Processor processor_, inner_;  // inner_: puts no space before a text
  std::optional<Unigram> unigram_;
  AddedTokenMatcher added_;
  std::vector<std::string> added_texts_;
  std::vector<Piece> pieces_;       // by id
  std::vector<std::string> bytes_;  // by id
  bool cuts_are_known_;
};

SentencePieceTokenizer::SentencePieceTokenizer(const TokenizerSpec& spec)
    : model_(spec.sentencepiece), legacy_(spec.legacy) {
  load_model(processor_, model_->bytes, spec.file);
  load_model(inner_, model_->bytes + std::string(kNoDummyPrefix), spec.file);
  if (model_->algorithm == SentencePieceModel::kUnigram) unigram_.emplace(*model_);
  read_tokens(spec);
  cuts_are_known_ = cuts_are_known(spec);
}

void SentencePieceTokenizer::read_tokens(const TokenizerSpec& spec) {
  size_t size = model_->pieces.size();
  for (const AddedToken& token : spec.added)
    size = std::max(size, static_cast<size_t>(token.id) + 1);
  tokens_.resize(size);
  pieces_.resize(size);
  bytes_.resize(size);
  for (size_t id = 0; id < model_->pieces.size(); ++id) {
    const auto& [text, type, score] = model_->pieces[id];
    tokens_[id] = {text, true, type == Type::kControl || type == Type::kUnknown};
    const bool byte = type == Type::kByte;
    pieces_[id] = {byte                     ? Piece::kByte
                   : type == Type::kUnknown ? Piece::kUnknown
                   : type == Type::kControl ? Piece::kVerbatim
                                            : Piece::kText,
                   byte ? std::string(1, static_cast<char>(byte_of_token(text))) : text};
    bytes_[id] = byte ? pieces_[id].text : replace_all(text, kSpelledSpace, " ");
  }
  for (const AddedToken& token : spec.added) {
    const bool piece = static_cast<size_t>(token.id) < model_->pieces.size();
    if (!piece) pieces_[token.id] = {Piece::kVerbatim, token.content};
    if (!piece) bytes_[token.id] = token.content;
    tokens_[token.id] = {token.content, true, token.special, true};
    added_.add(token.content, token);
    added_texts_.push_back(token.content);
  }
}

void SentencePieceTokenizer::encode_text(std::string_view text, bool continued,
                                         std::span<const TextRange> plain, Marks marks,
                                         std::vector<int32_t>& out) const {
  const bool after_added = continued && !out.empty() && is_added(out.back());
  added_.encode(text, plain, marks, out,
                [&](std::string_view piece, size_t begin, const Marks& here) {
                  const bool behind_added = begin > 0 || after_added;
                  const bool prefixed = behind_added ? legacy_ : !continued;
                  encode_piece(prefixed ? processor_ : inner_, piece, here, out);
                });
}

// The library's pieces, unknown ones included, which are the normalized text.
std::vector<Stretch> SentencePieceTokenizer::stretches(const Processor& processor,
                                                       std::string_view piece) const {
  std::vector<Stretch> found;
  sentencepiece::ImmutableSentencePieceText result;
  const auto status = processor.Encode({piece.data(), piece.size()}, result.mutable_proto());
  TENON_CHECK(status.ok(), "[sentencepiece] {}", status.ToString());
  for (const auto& one : result.pieces())
    found.push_back({static_cast<int32_t>(one.id()), one.piece(), one.begin(), one.end()});
  // Of the byte pieces of a character the last one is said to stand for all of it: each gets its own.
  const auto is_byte = [this](const Stretch& s) { return pieces_[s.id].kind == Piece::kByte; };
  for (size_t i = found.size(); i-- > 1;) {
    Stretch& before = found[i - 1];
    if (is_byte(before) && is_byte(found[i]) && before.begin == before.end &&
        before.end == found[i].begin && found[i].begin < found[i].end) {
      before.end = found[i].begin = found[i].end - 1;
    }
  }
  return found;
}

void SentencePieceTokenizer::encode_piece(const Processor& processor, std::string_view piece,
                                          Marks marks, std::vector<int32_t>& out) const {
  if (unigram_) return encode_unigram(stretches(processor, piece), marks, out);
  if (marks.empty()) {
    std::vector<int> ids;
    const auto status = processor.Encode({piece.data(), piece.size()}, &ids);
    TENON_CHECK(status.ok(), "[sentencepiece] {}", status.ToString());
    out.insert(out.end(), ids.begin(), ids.end());
    return;
  }
  size_t done = 0;
  for (; done < marks.size() && marks[done] == 0; ++done) marks[done] = out.size();
  for (const Stretch& stretch : stretches(processor, piece)) {
    for (; done < marks.size() && marks[done] < stretch.end; ++done) marks[done] = out.size();
    out.push_back(stretch.id);
  }
  set_marks(marks.subspan(done), out.size());
}

// The library's pieces, unknown ones included, are the normalized text, in which the marks are taken
// to lie as far behind the piece's start as in the text.
void SentencePieceTokenizer::encode_unigram(const std::vector<Stretch>& stretches, Marks marks,
                                            std::vector<int32_t>& out) const {
  std::string normalized;
  size_t done = 0;
  for (; done < marks.size() && marks[done] == 0; ++done) {
  }
  for (const Stretch& stretch : stretches) {
    const size_t start = normalized.size();
    const int byte = model_->byte_fallback ? byte_of_token(stretch.text) : -1;
    byte < 0 ? normalized += stretch.text : normalized += static_cast<char>(byte);
    for (; done < marks.size() && marks[done] < stretch.end; ++done) {
      const size_t inside = marks[done] - std::min(marks[done], stretch.begin);
      marks[done] = std::min(start + inside, normalized.size() - 1);
    }
  }
  set_marks(marks.subspan(done), normalized.size());
  const size_t first = out.size();
  std::vector<size_t> begins;  // of the tokens
  unigram_->encode(normalized, out, begins);
  for (size_t& mark : marks) {
    const auto behind = std::upper_bound(begins.begin(), begins.end(), mark) - begins.begin();
    mark = mark == normalized.size() ? out.size() : first + static_cast<size_t>(behind) - 1;
  }
}

// Before a space that follows another character a text may be cut where no piece has a space inside
// and none but spaces is rewritten: then no merge reaches over, and the rest, continued, begins with
// the space's own piece. Unigram's sums of scores would be rounded otherwise.
bool SentencePieceTokenizer::cuts_are_known(const TokenizerSpec& spec) const {
  const SentencePieceModel& m = *model_;
  if (m.algorithm != SentencePieceModel::kBpe || !m.identity_normalizer ||
      m.remove_extra_whitespaces || !m.escape_whitespaces || m.whitespace_as_suffix ||
      !spec.vocabulary.contains(std::string(kSpelledSpace))) {
    return false;
  }
  const auto has_inner_space = [](const SentencePieceModel::Piece& piece) {
    return has_inner_spelled_space(piece.text);
  };
  if (std::any_of(m.pieces.begin(), m.pieces.end(), has_inner_space)) return false;
  return std::none_of(spec.added.begin(), spec.added.end(), [](const AddedToken& token) {
    return token.content.find(' ') != std::string::npos || token.rstrip || token.lstrip ||
           token.single_word;
  });
}

size_t SentencePieceTokenizer::safe_cut(std::string_view text) const {
  return cuts_are_known_ ? last_cut_before_space(text, added_texts_) : 0;
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const TokenizerSpec& spec) {
  return std::make_unique<SentencePieceTokenizer>(spec);
}

}  // namespace tenon
