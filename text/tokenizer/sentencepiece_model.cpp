// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/sentencepiece_model.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>
#include <unordered_set>

#include "core/error.h"
#include "core/file.h"
#include "text/tokenizer/text_decoder.h"
#include "text/tokenizer/tokenizer_spec.h"
#include "text/utf8.h"

namespace tenon {
namespace {

constexpr int64_t kMaxModelBytes = int64_t{256} << 20;
constexpr size_t kLongestPiece = 4096;  // bytes
constexpr size_t kMostPieces = size_t{1} << 21;
constexpr uint64_t kMostFields = (1 << 29) - 1;

// A walk over the fields of one protobuf message.
class Message {
 public:
  Message(const std::string& file, std::string_view whole, std::string_view message)
      : file_(file), whole_(whole), rest_(message) {}

  // Moves to the next field; false at the end.
  bool next() {
    if (rest_.empty()) return false;
    start_ = rest_.data();
    const uint64_t tag = take_varint();
    field_ = tag >> 3;
    wire_ = static_cast<int>(tag & 7);
    if (field_ == 0 || field_ > kMostFields) reject("a protobuf field");
    switch (wire_) {
      case 0: value_ = take_varint(); break;
      case 1: value_ = take_fixed(8); break;
      case 2: bytes_ = take(take_varint()); break;
      case 5: value_ = take_fixed(4); break;
      default: reject("a protobuf field");
    }
    return true;
  }
  uint64_t field() const { return field_; }

  uint64_t number() const { return expect(0), value_; }
  bool flag() const { return number() != 0; }
  float real() const { return expect(5), std::bit_cast<float>(static_cast<uint32_t>(value_)); }
  std::string_view bytes() const { return expect(2), bytes_; }
  std::string text() const {
    const std::string_view text = bytes();
    if (valid_utf8_prefix(text) != text.size() || text.find('\0') != text.npos ||
        text.size() > kLongestPiece) {
      reject("a text in UTF-8");
    }
    return std::string(text);
  }
  Message message() const { return {file_, whole_, bytes()}; }
  // The field with its tag.
  std::string_view raw() const { return {start_, static_cast<size_t>(rest_.data() - start_)}; }

  [[noreturn]] void reject(std::string_view expected) const {
    fail_input("{}: byte {}: expected {} of a sentencepiece model", file_, start_ - whole_.data(),
               expected);
  }

 private:
  void expect(int wire) const {
    if (wire_ != wire) reject("a field of another protobuf type");
  }
  uint64_t take_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_[0]);
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    reject("a protobuf number");
  }
  uint64_t take_fixed(size_t size) {
    uint64_t value = 0;
    std::memcpy(&value, take(size).data(), size);
    return value;
  }
  std::string_view take(uint64_t size) {
    if (size > rest_.size()) reject("a complete protobuf field");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  const std::string& file_;
  std::string_view whole_, rest_;
  const char* start_ = nullptr;
  uint64_t field_ = 0, value_ = 0;
  int wire_ = 0;
  std::string_view bytes_;
};

SentencePieceModel::Piece read_piece(Message message) {
  SentencePieceModel::Piece piece;
  while (message.next()) {
    if (message.field() == 1) {
      piece.text = message.text();
    } else if (message.field() == 2) {
      piece.score = message.real();
      if (!std::isfinite(piece.score)) message.reject("a finite score");
    } else if (message.field() == 3) {
      if (message.number() < 1 || message.number() > 6) message.reject("a type in 1..6");
      piece.type = static_cast<SentencePieceModel::Type>(message.number());
    }
  }
  if (piece.text.empty()) message.reject("a piece with a text");
  if (piece.type == SentencePieceModel::kByte && byte_of_token(piece.text) < 0)
    message.reject("a byte piece such as <0x0A>");
  return piece;
}

void read_trainer(Message message, SentencePieceModel& model, const std::string& file) {
  while (message.next()) {
    switch (message.field()) {
      case 3:
        if (message.number() != 1 && message.number() != 2) {
          fail_input(
              "{}: sentencepiece model type {} is not supported (supported: 1 unigram, "
              "2 BPE)",
              file, message.number());
        }
        model.algorithm = static_cast<SentencePieceModel::Algorithm>(message.number());
        break;
      case 24: model.whitespace_as_suffix = message.flag(); break;
      case 40:
      case 41:
      case 42:
      case 43:
        // The ids of unk, bos, eos and pad; negative: there is none.
        model.largest_id = std::max(model.largest_id, static_cast<int64_t>(message.number()));
        break;
      case 35: model.byte_fallback = message.flag(); break;
      case 44: model.unknown_surface = message.text(); break;
      case 46: model.bos = message.text(); break;
      case 47: model.eos = message.text(); break;
      case 48: model.pad = message.text(); break;
      default: break;
    }
  }
}

// A double array of darts-clone: a unit is a value, or says which label leads to it, where its
// children lie and whether a key ends there. The library follows it without looking at its bounds,
// so every place that some text can lead to is visited here.
class TrieCheck {
 public:
  TrieCheck(std::string_view units, std::string_view texts)
      : units_(units), texts_(texts), seen_(units.size() / 4) {}

  bool good() {
    if (units_.size() < 1024 || units_.size() % 1024 != 0 || texts_.empty() || texts_.back() != 0)
      return false;
    if (!visit(offset(unit(0)))) return false;
    while (!to_visit_.empty()) {
      const uint32_t base = to_visit_.back();
      to_visit_.pop_back();
      for (uint32_t label = 0; label < 256; ++label) {
        const uint32_t at = base ^ label, child = unit(at);
        if ((child & 0x800000FF) != label) continue;
        const uint32_t children = at ^ offset(child);
        if (!visit(children)) return false;
        const bool ends = (child >> 8 & 1) != 0;
        if (ends && (unit(children) & 0x7FFFFFFF) >= texts_.size()) return false;
      }
    }
    return true;
  }

 private:
  uint32_t unit(uint32_t index) const {
    uint32_t value;
    std::memcpy(&value, units_.data() + size_t{4} * index, 4);
    return value;
  }
  static uint32_t offset(uint32_t unit) { return unit >> 10 << ((unit & 512) >> 6); }
  // Takes note of a block of children. False when not all 256 of them lie inside.
  bool visit(uint32_t base) {
    if ((base | 0xFF) >= seen_.size()) return false;
    if (!seen_[base]) to_visit_.push_back(base);
    seen_[base] = true;
    return true;
  }

  std::string_view units_, texts_;
  std::vector<bool> seen_;
  std::vector<uint32_t> to_visit_;
};

// A precompiled map of characters: the size of a trie, the trie, and the texts that it points into.
bool charsmap_is_good(std::string_view map) {
  uint32_t size = 0;
  if (map.size() <= sizeof size) return false;
  std::memcpy(&size, map.data(), sizeof size);
  map.remove_prefix(sizeof size);
  if (size >= map.size() || valid_utf8_prefix(map.substr(size)) != map.size() - size) return false;
  return TrieCheck(map.substr(0, size), map.substr(size)).good();
}

void read_normalizer(Message message, SentencePieceModel& model) {
  while (message.next()) {
    switch (message.field()) {
      case 2:
        model.identity_normalizer = message.bytes().empty();
        if (!message.bytes().empty() && !charsmap_is_good(message.bytes()))
          message.reject("a precompiled map of characters");
        break;
      case 3: model.add_dummy_prefix = message.flag(); break;
      case 4: model.remove_extra_whitespaces = message.flag(); break;
      case 5: model.escape_whitespaces = message.flag(); break;
      default: break;
    }
  }
}

void read_denormalizer(Message message, const std::string& file) {
  while (message.next()) {
    if (message.field() == 2 && !message.bytes().empty())
      fail_input("{}: a sentencepiece denormalizer is not supported", file);
  }
}

// The rules that the library has for the pieces as a whole.
void check_pieces(const SentencePieceModel& model, const std::string& file) {
  std::unordered_set<std::string_view> texts;
  std::vector<bool> bytes(256);
  int unknown = 0;
  bool normal = false;
  for (const auto& [text, type, score] : model.pieces) {
    if (!texts.insert(text).second)
      fail_input("{}: expected pieces that differ, got \"{}\" twice", file, printable(text));
    unknown += type == SentencePieceModel::kUnknown;
    normal |= type == SentencePieceModel::kNormal || type == SentencePieceModel::kUserDefined;
    if (type == SentencePieceModel::kByte) bytes[byte_of_token(text)] = true;
  }
  if (model.largest_id >= static_cast<int64_t>(model.pieces.size())) {
    fail_input("{}: expected ids of the {} pieces in the trainer's settings, got {}", file,
               model.pieces.size(), model.largest_id);
  }
  if (unknown != 1) fail_input("{}: expected one piece of type unknown, got {}", file, unknown);
  if (!normal) fail_input("{}: expected pieces of text, got none", file);
  for (int byte = 0; model.byte_fallback && byte < 256; ++byte) {
    if (!bytes[byte])
      fail_input("{}: expected a piece for each byte, got none for {:#04x}", file, byte);
  }
}

// Meta's form: "base64 rank" a line.
bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, std::min(text.find('\n'), size_t{512}));
  const size_t space = line.find(' ');
  return space != line.npos && space > 0 && space + 1 < line.size() &&
         line.find_first_not_of("0123456789\r", space + 1) == line.npos;
}

}  // namespace

SentencePieceModel read_sentencepiece_model(const std::filesystem::path& path) {
  const std::string file = shown(path);
  SentencePieceModel model;
  const std::string bytes = read_text(path, kMaxModelBytes);
  if (looks_like_tiktoken(bytes)) {
    fail_input(
        "{}: tiktoken ranks are not supported, which lack the pattern and the special "
        "tokens (supported: a sentencepiece model; take the tokenizer.json of the model's "
        "Hugging Face folder)",
        file);
  }
  Message message(file, bytes, bytes);
  bool trainer = false, normalizer = false;
  while (message.next()) {
    if (message.field() != 4)
      model.bytes += message.raw();  // 4: what the trainer tests itself with
    switch (message.field()) {
      case 1:
        model.pieces.push_back(read_piece(message.message()));
        if (model.pieces.size() > kMostPieces) message.reject("at most 2097152 pieces");
        break;
      case 2:
        read_trainer(message.message(), model, file);
        trainer = true;
        break;
      case 3:
        read_normalizer(message.message(), model);
        normalizer = true;
        break;
      case 5: read_denormalizer(message.message(), file); break;
      default: break;
    }
  }
  if (model.pieces.empty()) fail_input("{}: expected a sentencepiece model, got no pieces", file);
  check_pieces(model, file);
  if (!trainer || !normalizer) {  // both come behind the pieces
    fail_input(
        "{}: expected the settings of trainer and normalizer behind the pieces, got none of {}",
        file, trainer ? "the normalizer" : "the trainer");
  }
  return model;
}

void read_sentencepiece(const std::filesystem::path& path, TokenizerSpec& spec) {
  auto model = std::make_shared<SentencePieceModel>(read_sentencepiece_model(path));
  spec.file = shown(path);
  spec.vocabulary.reserve(model->pieces.size());
  for (size_t id = 0; id < model->pieces.size(); ++id) {
    const auto entry =
        spec.vocabulary.emplace(model->pieces[id].text, static_cast<int32_t>(id)).first;
    spec.by_id.push_back(&entry->first);
  }
  // Hugging Face's tokenizer looks for these in a text, the library does not.
  for (const auto& [text, type, score] : model->pieces) {
    const bool boundary =
        type == SentencePieceModel::kControl && (text == model->bos || text == model->eos);
    if (type == SentencePieceModel::kUnknown || boundary)
      add_token({.content = text, .id = spec.vocabulary.at(text), .special = true}, spec.file,
                spec);
  }
  spec.sentencepiece = std::move(model);
}

}  // namespace tenon
