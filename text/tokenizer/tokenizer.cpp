// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer.h"

#include <algorithm>

#include "text/tokenizer/byte_level_bpe.h"
#include "text/tokenizer/pipeline_tokenizer.h"
#include "text/tokenizer/sentencepiece_tokenizer.h"
#include "text/tokenizer/tokenizer_spec.h"
#include "text/utf8.h"

namespace tenon {
namespace {

// Moves marks to where they lie once the text is valid UTF-8; those inside of a character, to it.
void move_to_repaired(std::string_view text, Marks marks) {
  for (size_t& mark : marks) {
    const size_t unfinished = unfinished_utf8_tail(text.substr(0, mark));
    if (mark < text.size() && valid_utf8_prefix(text.substr(mark - unfinished, 4)) > unfinished)
      mark -= unfinished;
  }
  move_marks(text, marks, [](std::string_view part) {
    std::string valid;
    append_valid_utf8(part, valid);
    return valid;
  });
}

}  // namespace

// The kinds of tokenizer: each is a file of its own that turns a checked TokenizerSpec into a
// Tokenizer. What none of them takes, read_tokenizer_spec() has refused by name.
std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
  const TokenizerSpec spec = read_tokenizer_spec(directory);
  auto tokenizer = spec.sentencepiece ? make_sentencepiece_tokenizer(spec)
                   : spec.byte_level  ? make_byte_level_bpe(spec)
                                      : make_pipeline_tokenizer(spec);
  tokenizer->eos_ = spec.eos;
  tokenizer->bos_ = spec.bos;
  tokenizer->prefix_ = spec.prefix;
  tokenizer->suffix_ = spec.suffix;
  tokenizer->fingerprint_ = spec.fingerprint;
  tokenizer->file_ = spec.file;
  tokenizer->note_ = spec.note;
  return tokenizer;
}

void Tokenizer::encode_repaired(std::string_view text, bool continued,
                                std::span<const TextRange> plain, Marks marks,
                                std::vector<int32_t>& out) const {
  std::string repaired;
  const std::string_view valid = as_valid_utf8(text, repaired);
  std::vector<size_t> ends;
  for (const TextRange& range : plain) ends.insert(ends.end(), {range.begin, range.end});
  if (!repaired.empty()) {
    move_to_repaired(text, ends);
    move_to_repaired(text, marks);
  }
  std::vector<TextRange> moved;
  for (size_t i = 0; i < ends.size(); i += 2) {
    if (ends[i] < ends[i + 1]) moved.push_back({ends[i], ends[i + 1]});
  }
  encode_text(valid, continued, moved, marks, out);
}

void Tokenizer::encode(std::string_view text, std::vector<int32_t>& out) const {
  encode_repaired(text, false, {}, {}, out);
}

void Tokenizer::encode_plain(std::string_view text, std::vector<int32_t>& out) const {
  encode_repaired(text, false, std::vector<TextRange>{{0, text.size()}}, {}, out);
}

void Tokenizer::encode_spans(std::string_view text, bool continued,
                             std::span<const TextRange> plain, std::span<TextRange> spans,
                             std::vector<int32_t>& out) const {
  std::vector<size_t> marks;
  for (const TextRange& span : spans)
    marks.insert(marks.end(), {span.begin, span.end - 1, span.end});
  encode_repaired(text, continued, plain, marks, out);
  for (size_t i = 0; i < spans.size(); ++i) {
    // The token of the last byte may hold what follows too; where it does not, what the tokenizer
    // puts before that ends the span.
    const size_t last = marks[3 * i + 1], behind = marks[3 * i + 2];
    spans[i] = {marks[3 * i], std::max(std::min(last + 1, out.size()), behind)};
  }
}

void Tokenizer::encode_continued(std::string_view text, bool special,
                                 std::vector<int32_t>& out) const {
  std::vector<TextRange> plain;
  if (!special) plain.push_back({0, text.size()});
  encode_repaired(text, true, plain, {}, out);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  encode(text, ids);
  return ids;
}

std::optional<std::string_view> Tokenizer::token(int32_t id) const {
  if (id < 0 || id >= vocabulary_size() || !tokens_[id].present) return std::nullopt;
  return tokens_[id].text;
}

bool Tokenizer::is_special(int32_t id) const {
  return token(id).has_value() && tokens_[id].special;
}

bool Tokenizer::is_added(int32_t id) const { return token(id).has_value() && tokens_[id].added; }

std::unique_ptr<TextDecoder> Tokenizer::start_decoding() const {
  return make_utf8_decoder([this](int32_t id) { return bytes(id); });
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder stream(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) text += stream.push(id);
  return text + stream.finish();
}

std::string StreamDecoder::push(int32_t id) {
  std::string text;
  const bool skipped = !tokenizer_.token(id) || (skip_special_ && tokenizer_.is_special(id));
  if (!skipped) decoder_->push(id, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  decoder_->finish(text);
  decoder_ = tokenizer_.start_decoding();
  return text;
}

}  // namespace tenon
