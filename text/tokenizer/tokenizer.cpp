// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer.h"

#include "text/tokenizer/byte_level_bpe.h"
#include "text/tokenizer/pipeline_tokenizer.h"
#include "text/tokenizer/sentencepiece_tokenizer.h"
#include "text/tokenizer/tokenizer_spec.h"

namespace tenon {

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
  return tokenizer;
}

void Tokenizer::encode_continued(std::string_view text, bool special,
                                 std::vector<int32_t>& out) const {
  special ? encode(text, out) : encode_plain(text, out);
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
